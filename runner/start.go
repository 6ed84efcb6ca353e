package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Starting: `start` looks at what is there, takes the lock and leaves it to the detached `supervise`. Whoever can take
// the lock knows that nobody supervises; that is how a runner that died is found out.

func start(o *options) int {
	if err := os.MkdirAll(o.root, 0o711); err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	_ = os.Chmod(o.root, 0o711)
	content, err := os.ReadFile(filepath.Join(o.root, "launch.json"))
	if err != nil {
		return complain(exitUnreadable, "launch document: %s", err)
	}
	launch, unreadable := decodeLaunch(content)
	lock, err := takeLock(o.root)
	for tries := 0; tries < 5 && errors.Is(err, syscall.EWOULDBLOCK); tries++ {
		pauseMs(10) // it may be held for a moment only, by one who looks whether it is held
		lock, err = takeLock(o.root)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return startedAlready(o.root, launch, unreadable)
	}
	if err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	defer lock.Close()
	if state := readState(o.root); state != nil && state.Attempt != "" {
		if unreadable != nil {
			return complain(exitUnreadable, "%s (what ran here was left alone)", unreadable)
		}
		if code := sameAttempt(state, launch); code != 0 {
			return code
		}
		if !state.Ended && state.BootID == bootID() {
			state = declareDead(o.root, state)
		}
		if state.Ended {
			_, _ = os.Stdout.Write(line(Started{Outcome: "ended"}))
			return 0
		}
	}
	if unreadable != nil {
		refuseLaunch(o.root, launch, unreadable)
		return complain(exitUnreadable, "%s", unreadable)
	}
	return detach(o.root, lock)
}

func takeLock(root string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func readState(root string) *State {
	content, err := os.ReadFile(filepath.Join(root, "state.json"))
	if err != nil {
		return nil
	}
	state := &State{}
	if json.Unmarshal(content, state) != nil {
		return nil
	}
	return state
}

func writeState(root string, state *State) {
	state.Number++
	state.At = unix(time.Now())
	content, _ := json.Marshal(state)
	_ = writeAtomically(filepath.Join(root, "state.json"), content)
}

func sameAttempt(state *State, launch *Launch) int {
	if state.Attempt == launch.Attempt && state.PodUID == launch.PodUID {
		return 0
	}
	return complain(exitOtherAttempt, "%s belongs to attempt %s of pod %s; attempt %s of pod %s is refused",
		"this folder", state.Attempt, state.PodUID, launch.Attempt, launch.PodUID)
}

// startedAlready waits for the one that holds the lock to have said what it runs.
func startedAlready(root string, launch *Launch, unreadable error) int {
	if unreadable != nil {
		return complain(exitUnreadable, "%s (what runs here was left alone)", unreadable)
	}
	for range 100 {
		if state := readState(root); state != nil {
			if code := sameAttempt(state, launch); code != 0 {
				return code
			}
			_, _ = os.Stdout.Write(line(Started{Outcome: "running"}))
			return 0
		}
		pauseMs(50)
	}
	return complain(exitUnreadable, "another start is under way and tells no state")
}

// declareDead writes down that the runner is gone, and ends what it may have left.
func declareDead(root string, state *State) *State {
	var mains []int
	for _, list := range [][]ContainerState{state.Init, state.Containers} {
		for i := range list {
			c := &list[i]
			if c.Running == nil {
				continue
			}
			mains = append(mains, c.Running.PID)
			c.Terminated = &Terminated{ExitCode: 137, Reason: "ContainerStatusUnknown", ID: c.ID,
				StartedAt: c.Running.StartedAt, FinishedAt: unix(time.Now()),
				Message: "The container could not be located when the runner had died"}
			c.Running, c.Ready, c.Started = nil, false, false
		}
	}
	for _, main := range mains {
		for _, p := range allProcesses() {
			if p.session == main {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
	}
	state.Ended = true
	state.Failure = "the runner died" + lastComplaint(root)
	writeState(root, state)
	return state
}

func lastComplaint(root string) string {
	content, _ := os.ReadFile(filepath.Join(root, "runner.log"))
	for _, text := range strings.Split(string(content), "\n") {
		if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:") || strings.HasPrefix(text, "runner:") {
			return ": " + clip(text, 300)
		}
	}
	return ""
}

func refuseLaunch(root string, launch *Launch, why error) {
	state := &State{PodUID: launch.PodUID, Attempt: launch.Attempt, BootID: bootID(), Ended: true, Failure: why.Error(),
		Version: documentVersion}
	if launch.PodUID == "" || launch.Version != documentVersion {
		state.Attempt = ""
	}
	writeState(root, state)
}

// detach starts `supervise` in a session of its own, with views of its own where the machine allows it, and returns
// when it can be followed.
func detach(root string, lock *os.File) int {
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	log, err := os.OpenFile(filepath.Join(root, "runner.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	attributes := &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd(), lock.Fd(), readyEnd.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS},
	}
	arguments := []string{"runner", "supervise", "--root", root}
	pid, err := syscall.ForkExec("/proc/self/exe", append(arguments, "--own-view"), attributes)
	if err != nil {
		attributes.Sys.Unshareflags = 0
		pid, err = syscall.ForkExec("/proc/self/exe", arguments, attributes)
	}
	if err != nil {
		return complain(exitUnreadable, "%s", err)
	}
	readyEnd.Close()
	said, _ := io.ReadAll(ready)
	if string(said) != "ok" {
		return complain(exitUnreadable, "the supervising process did not come up: %s%s", said, lastComplaint(root))
	}
	_, _ = os.Stdout.Write(line(Started{Outcome: "started", PID: pid}))
	return 0
}

// supervise is the long-lived process: descriptor 3 is the lock, 4 says that it is up.
func supervise(o *options) int {
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	syscall.Umask(0o022)
	ready := os.NewFile(4, "ready")
	// Full disks and file size limits are errors to us, not ends.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGXFSZ, syscall.SIGPIPE, syscall.SIGHUP)
	p, c, err := bringUp(o)
	if err != nil {
		fmt.Fprint(ready, err)
		return exitUnreadable
	}
	go p.keepState()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for range told {
			p.stop(p.grace())
		}
	}()
	fmt.Fprint(ready, "ok")
	ready.Close()
	p.run()
	<-p.ended.open
	c.close()
	return 0
}

func bringUp(o *options) (*pod, *control, error) {
	content, err := os.ReadFile(filepath.Join(o.root, "launch.json"))
	if err != nil {
		return nil, nil, err
	}
	launch, err := decodeLaunch(content)
	if err != nil {
		return nil, nil, err
	}
	reaper, err := newReaper()
	if err != nil {
		return nil, nil, err
	}
	for _, folder := range []string{"logs", volumesDir, "containers", "etc"} {
		if err := os.MkdirAll(filepath.Join(o.root, folder), 0o711); err != nil {
			return nil, nil, err
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0) // where we may
	p := newPod(o.root, launch, reaper)
	p.ownView = o.ownView
	p.mayMount = o.ownView && mountingWorks(filepath.Join(o.root, "etc"))
	if before := readState(o.root); before != nil && before.Attempt == launch.Attempt {
		p.takeOver(before)
	}
	_ = os.WriteFile(filepath.Join(o.root, "reserve"), make([]byte, 64<<10), 0o600)
	p.change(func() {})
	p.keepOnce()
	c, err := listen(p)
	return p, c, err
}

// mountingWorks is tried, not read from capabilities: a security module may forbid what those allow.
func mountingWorks(folder string) bool {
	if syscall.Mount(folder, folder, "", syscall.MS_BIND, "") != nil {
		return false
	}
	_ = syscall.Unmount(folder, syscall.MNT_DETACH)
	return true
}

// takeOver goes on after the machine was started anew: every process of before is gone, by nobody's decision.
func (p *pod) takeOver(before *State) {
	p.state.Number = before.Number
	p.state.Occurrences = before.Occurrences
	for i := range p.units {
		u := p.units[i]
		for _, list := range [][]ContainerState{before.Init, before.Containers} {
			for _, c := range list {
				if c.Name == u.spec.Name {
					u.carryOver(c)
				}
			}
		}
	}
}

func (u *unit) carryOver(c ContainerState) {
	waiting := u.state.Waiting
	last := c.Terminated
	if c.Running != nil {
		last = &Terminated{ExitCode: 137, Reason: "ContainerStatusUnknown", StartedAt: c.Running.StartedAt,
			FinishedAt: unix(time.Now()), ID: c.ID,
			Message: "The container could not be located: the machine was started anew"}
	}
	if last == nil {
		last = c.Last
	}
	*u.state = ContainerState{Name: c.Name, Restarts: c.Restarts, ID: c.ID, Waiting: waiting, Last: last}
	u.before = last
}
