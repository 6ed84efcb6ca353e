package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A unit is a container, or an init step, over all its runs.

type unit struct {
	pod   *pod
	spec  *Container
	state *ContainerState // guarded by pod.mu
	mark  int
	init  bool

	begun     *gate // live was called
	launched  *gate // the first run is on its way, its postStart hook done
	up        *gate // a run has started in the sense of startup probes
	dismissed *gate // a sidecar whose time is over
	over      *gate // no run, and none to come
	succeeded bool  // valid once over

	run *run // the present one, guarded by pod.mu

	before *Terminated // how it had ended when the machine was started anew
}

func newUnit(p *pod, spec *Container, state *ContainerState, index int) *unit {
	return &unit{
		pod: p, spec: spec, state: state, mark: firstMark + index%marks, init: index < len(p.launch.Init),
		begun: newGate(), launched: newGate(), up: newGate(), dismissed: newGate(), over: newGate(),
	}
}

func (u *unit) sidecar() bool { return u.init && u.spec.Restart == "Always" }

const (
	firstBackOffS = 10.0
	maxBackOffS   = 300.0
	goodRunS      = 600.0
)

// live runs the container again and again, as its restart policy has it.
func (u *unit) live() {
	u.begun.let()
	defer u.over.let()
	if !u.init && u.isDone() {
		return
	}
	delay := 0.0 // the first restart is immediate, as a kubelet's
	for number := u.firstNumber(); !u.leaving(); number++ {
		began := time.Now()
		ended := u.runOnce(number)
		u.succeeded = ended.ExitCode == 0
		u.launched.let()
		if !u.again() {
			return
		}
		if time.Since(began) >= scaled(goodRunS) {
			delay = 0
		}
		if !u.backOff(delay, ended) {
			return
		}
		delay = min(max(delay*2, firstBackOffS), maxBackOffS)
	}
}

// isDone tells a container that had ended for good before the machine was started anew.
func (u *unit) isDone() bool {
	if u.before == nil {
		return false
	}
	u.succeeded = u.before.ExitCode == 0
	if u.again() {
		return false
	}
	u.pod.change(func() { u.state.Waiting, u.state.Last, u.state.Terminated = nil, nil, u.before })
	return true
}

func (u *unit) firstNumber() int {
	u.pod.mu.Lock()
	defer u.pod.mu.Unlock()
	if u.state.ID != "" { // it ran before the machine was started anew
		return u.state.Restarts + 1
	}
	return 0
}

func (u *unit) leaving() bool { return u.pod.stopping.isOpen() || u.dismissed.isOpen() }

func (u *unit) again() bool {
	if u.leaving() {
		return false
	}
	switch u.spec.Restart {
	case "Always":
		return true
	case "OnFailure":
		return !u.succeeded
	}
	return false
}

// backOff waits; false: the pod ends meanwhile.
func (u *unit) backOff(delay float64, ended *Terminated) bool {
	if delay > 0 {
		u.pod.change(func() {
			u.state.Terminated, u.state.Last = nil, ended
			u.state.Waiting = &Waiting{"CrashLoopBackOff", "back-off " + time.Duration(delay*1e9).String() +
				" restarting failed container=" + u.spec.Name + " pod=" + u.pod.launch.PodName + "_" +
				u.pod.launch.Namespace + "(" + u.pod.launch.PodUID + ")"}
			u.pod.occur(u.spec.Name, "BackOff", true, "Back-off restarting failed container %s in pod %s_%s(%s)",
				u.spec.Name, u.pod.launch.PodName, u.pod.launch.Namespace, u.pod.launch.PodUID)
		})
		select {
		case <-time.After(scaled(delay)):
		case <-u.pod.stopping.open:
		case <-u.dismissed.open:
		}
	}
	if u.leaving() {
		u.pod.change(func() { u.state.Waiting, u.state.Terminated, u.state.Last = nil, ended, nil })
		return false
	}
	return true
}

// run is one life of the container's process.
type run struct {
	number  int
	id      string
	pid     int
	log     *runLog
	streams *streams
	oom     oomWatch
	message string // where the termination message is written
	began   time.Time
	exited  *gate
	result  exit // valid once exited
	killed  bool // by us; guarded by pod.mu
	// cpuBefore is what orphans of earlier runs had used when this one began.
	cpuBefore, cpuSeen time.Duration
	overLimit          string // not empty: ended by us for its memory; guarded by pod.mu
}

func newID() string {
	var bytes [32]byte
	_, _ = rand.Read(bytes[:])
	return hex.EncodeToString(bytes[:])
}

func (u *unit) runOnce(number int) *Terminated {
	p := u.pod
	r := &run{number: number, id: newID(), exited: newGate(), began: time.Now()}
	forgetLogs(p.root, u.spec.Name, number)
	if err := u.start(r); err != nil {
		return u.couldNotStart(r, err)
	}
	p.change(func() {
		u.run = r
		last := u.state.Terminated
		if last == nil {
			last = u.state.Last
		}
		*u.state = ContainerState{Name: u.spec.Name, Restarts: number, Last: last, ID: r.id,
			Running: &Running{StartedAt: unix(r.began), PID: r.pid}}
		p.occur(u.spec.Name, "Created", false, "Created container: %s", u.spec.Name)
		p.occur(u.spec.Name, "Started", false, "Started container %s", u.spec.Name)
		if u.spec.PostStart == nil {
			u.noteStarted()
		}
	})
	watched := newGate()
	go u.watch(r, watched)
	stopping := p.stopping
	if u.sidecar() {
		stopping = newGate() // it goes when it is dismissed, after the containers
	}
	select {
	case <-r.exited.open:
	case <-stopping.open:
		u.terminate(r, p.killNow, true, "Stopping container "+u.spec.Name)
	case <-u.dismissed.open:
		u.terminate(r, p.killNow, true, "Stopping container "+u.spec.Name)
	}
	<-r.exited.open
	watched.let()
	return u.conclude(r)
}

// noteStarted with the state locked: the process runs and its hook is done.
func (u *unit) noteStarted() {
	if u.spec.Startup == nil {
		u.setStarted()
	}
}

func (u *unit) setStarted() {
	u.state.Started = true
	u.state.Ready = u.spec.Readiness == nil && (!u.init || u.sidecar())
	u.up.let()
}

func (u *unit) couldNotStart(r *run, err error) *Terminated {
	var problem *refusal
	if !errors.As(err, &problem) {
		problem = &refusal{128, "StartError", err.Error()}
	}
	now := unix(time.Now())
	ended := &Terminated{ExitCode: problem.Code, Reason: problem.Reason, Message: problem.Message,
		StartedAt: unix(r.began), FinishedAt: now, ID: r.id}
	u.pod.change(func() {
		last := u.state.Terminated
		if last == nil {
			last = u.state.Last
		}
		*u.state = ContainerState{Name: u.spec.Name, Restarts: r.number, Last: last, ID: r.id, Terminated: ended}
		u.pod.occur(u.spec.Name, "Failed", true, "Error: %s", problem.Message)
	})
	if r.log != nil {
		r.log.close()
	}
	return ended
}

// start brings the process up, with its streams, its log and its termination message in place.
func (u *unit) start(r *run) (err error) {
	p := u.pod
	r.log, err = openLog(logPath(p.root, u.spec.Name, r.number), p.logBroken)
	if err != nil {
		p.logBroken(err)
		return err
	}
	e, err := u.entry()
	if err != nil {
		return err
	}
	if err = u.placeMessage(r, e); err != nil {
		return err
	}
	r.streams, err = openStreams(u.spec, r.log)
	if err != nil {
		return err
	}
	r.oom = watchMemory()
	r.cpuBefore = p.reaper.orphansUsed(u.mark)
	r.began = time.Now()
	child, err := p.spawn(e, r.streams.child, r.streams.attributes())
	r.streams.closeChild()
	if err != nil {
		r.streams.abandon()
		return err
	}
	r.pid = child.pid
	go func() {
		r.result = <-child.exited
		r.exited.let()
	}()
	r.streams.pump()
	return nil
}

func (p *pod) logBroken(err error) {
	if errors.Is(err, syscall.ENOSPC) {
		p.fail("the machine's disk is full: " + err.Error())
		return
	}
	p.fail("logs can't be kept: " + err.Error())
}

// entry says how a process of this container is to be. Mounts are made ready on the way.
func (u *unit) entry() (*entry, error) {
	c := u.spec
	e := &entry{
		Argv: c.Argv, Env: c.Env, Dir: c.WorkingDir, User: c.User, Groups: c.Groups, NoNewPrivs: c.NoNewPrivileges,
		Drop: dropped(c.DropCapabilities), Mark: u.mark, Bound: true, OwnStreams: true,
		Hostname: u.pod.launch.Hostname,
	}
	mounts := append([]Mount{}, c.Mounts...)
	sort.SliceStable(mounts, func(i, j int) bool { // outer ones first
		return strings.Count(filepath.Clean(mounts[i].Path), "/") < strings.Count(filepath.Clean(mounts[j].Path), "/")
	})
	for _, m := range mounts {
		source, err := u.pod.mountSource(u, m)
		if err != nil {
			return nil, err
		}
		if u.pod.mayMount {
			e.Binds = append(e.Binds, bind{source, m.Path, m.ReadOnly})
		} else if err := u.pod.place(m, source); err != nil {
			return nil, refuse(err, "placing volume %q at %q", m.Volume, m.Path)
		}
	}
	e.ReadOnlyRoot = c.ReadOnlyRoot && u.pod.mayMount
	return e, nil
}

const messageLimit = 4096

// placeMessage makes the file for the termination message: the container's own by a mount, else the path itself.
func (u *unit) placeMessage(r *run, e *entry) error {
	path := u.spec.TerminationMessagePath
	r.message = path
	if u.pod.mayMount {
		r.message = filepath.Join(u.pod.root, "containers", u.spec.Name, "termination-"+strconv.Itoa(r.number))
		e.Binds = append(e.Binds, bind{r.message, path, false})
	}
	err := os.MkdirAll(filepath.Dir(r.message), 0o755)
	if err == nil {
		_ = os.Remove(r.message) // a link that a run before left here must not be followed
		var file *os.File
		if file, err = os.OpenFile(r.message, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666); err == nil {
			err = file.Chmod(0o666) // whatever the umask
			file.Close()
		}
	}
	if err != nil && u.pod.mayMount {
		return refuse(err, "termination message %q", r.message)
	}
	return nil // an ordinary user may be unable to write there: then nothing will be read there either
}

// conclude ends everything that is left of the run and says how it ended.
func (u *unit) conclude(r *run) *Terminated {
	killMembers(r.pid, u.mark)
	r.streams.drain()
	r.log.close()
	ended := &Terminated{ExitCode: r.result.code(), StartedAt: unix(r.began), FinishedAt: unix(r.result.at), ID: r.id}
	if r.result.status.Signaled() {
		ended.Signal = int(r.result.status.Signal())
	}
	u.pod.mu.Lock()
	killed, overLimit := r.killed, r.overLimit
	u.pod.mu.Unlock()
	ended.Reason, ended.Message = r.oom.judge(r.result, killed, u.spec.MemoryLimitBytes)
	if overLimit != "" {
		ended.Reason, ended.Message = "OOMKilled", overLimit
	}
	if said := u.lastWords(r, ended.ExitCode != 0); said != "" {
		ended.Message = said
	}
	u.pod.change(func() {
		u.run = nil
		u.state.Running, u.state.Waiting, u.state.Terminated = nil, nil, ended
		u.state.Started = false
		u.state.Ready = u.init && !u.sidecar() && ended.ExitCode == 0 // as a kubelet says of a step that is done
	})
	return ended
}

func (u *unit) lastWords(r *run, failed bool) string {
	said := ""
	if file, err := os.OpenFile(r.message, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0); err == nil {
		buffer := make([]byte, messageLimit)
		n, _ := file.Read(buffer)
		file.Close()
		said = clean(string(buffer[:n]))
	}
	if u.pod.mayMount {
		_ = os.Remove(r.message)
	}
	if said == "" && failed && u.spec.TerminationMessageFromLog {
		said = lastOutput(r.log.path)
	}
	return said
}
