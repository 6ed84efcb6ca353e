package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The pod: its state, who is told of it, and its end.

type pod struct {
	launch   *Launch
	root     string
	reaper   *reaper
	ownView  bool // mounts and host name are the pod's own
	mayMount bool // and mounting works

	mu      sync.Mutex
	state   State
	newest  []byte        // the state as JSON
	made    chan struct{} // closed when there is a newer one
	told    []byte        // the newest that is in its file
	changed chan struct{} // closed when there is a newer one

	units    []*unit // init steps, then containers
	stopping *gate
	killNow  *gate // the grace is over
	deadline time.Time
	timer    *time.Timer
	over     *gate // nothing more will change
	ended    *gate // and all has been told

	updating sync.Mutex // of volumes
}

func newPod(root string, launch *Launch, reaper *reaper) *pod {
	p := &pod{
		launch: launch, root: root, reaper: reaper, made: make(chan struct{}),
		changed: make(chan struct{}), stopping: newGate(), killNow: newGate(), over: newGate(), ended: newGate(),
	}
	p.state = State{PodUID: launch.PodUID, Attempt: launch.Attempt, BootID: bootID(), Version: documentVersion}
	waiting := "ContainerCreating"
	if len(launch.Init) > 0 {
		waiting = "PodInitializing"
	}
	for i := range launch.Init {
		p.state.Init = append(p.state.Init, ContainerState{Name: launch.Init[i].Name, Waiting: &Waiting{Reason: waiting}})
	}
	for i := range launch.Containers {
		p.state.Containers = append(p.state.Containers,
			ContainerState{Name: launch.Containers[i].Name, Waiting: &Waiting{Reason: waiting}})
	}
	// Only now do the slices stand still, so that units may keep pointers into them.
	for i := range launch.Init {
		p.units = append(p.units, newUnit(p, &launch.Init[i], &p.state.Init[i], len(p.units)))
	}
	for i := range launch.Containers {
		p.units = append(p.units, newUnit(p, &launch.Containers[i], &p.state.Containers[i], len(p.units)))
	}
	return p
}

// change alters the state and tells everybody who follows.
func (p *pod) change(alter func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	alter()
	p.publish()
}

func (p *pod) publish() {
	p.state.Number++
	p.state.At = unix(time.Now())
	p.newest, _ = json.Marshal(&p.state)
	close(p.made)
	p.made = make(chan struct{})
}

// occur must be called from within change.
func (p *pod) occur(container, reason string, warning bool, format string, arguments ...any) {
	number := 1
	if n := len(p.state.Occurrences); n > 0 {
		number = p.state.Occurrences[n-1].Number + 1
	}
	p.state.Occurrences = append(p.state.Occurrences, Occurrence{
		Number: number, At: unix(time.Now()), Container: container, Reason: reason, Warning: warning,
		Message: clip(fmt.Sprintf(format, arguments...), 1024),
	})
	if n := len(p.state.Occurrences); n > 50 {
		p.state.Occurrences = p.state.Occurrences[n-50:]
	}
}

func (p *pod) record(container, reason string, warning bool, format string, arguments ...any) {
	p.change(func() { p.occur(container, reason, warning, format, arguments...) })
}

// snapshot gives the state to be told, as JSON, and what is closed when it is no longer true.
func (p *pod) snapshot() ([]byte, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told, p.changed
}

// stop begins the end, or shortens it; it returns at once.
func (p *pod) stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	deadline := time.Now().Add(grace)
	if p.stopping.isOpen() && !deadline.Before(p.deadline) {
		return
	}
	p.setDeadline(deadline)
	if !p.stopping.isOpen() {
		p.state.Stopping = true
		p.publish()
		p.stopping.let()
	}
}

// setDeadline with mu held.
func (p *pod) setDeadline(deadline time.Time) {
	p.deadline = deadline
	if p.timer != nil {
		p.timer.Stop()
	}
	if left := time.Until(deadline); left > 0 {
		p.timer = time.AfterFunc(left, p.killNow.let)
	} else {
		p.killNow.let()
	}
}

func (p *pod) grace() time.Duration { return time.Duration(*p.launch.GraceS) * time.Second }

// fail ends the pod for a reason that lies in the machine. Only the first one counts.
func (p *pod) fail(reason string) {
	p.mu.Lock()
	if p.state.Failure == "" && !p.state.Ended {
		p.state.Failure = reason
		p.publish()
	}
	p.mu.Unlock()
	go p.stop(min(p.grace(), 10*time.Second))
}

// run lives as long as the pod does.
func (p *pod) run() {
	defer p.over.let()
	if err := p.prepare(); err != nil {
		p.fail(err.Error())
	} else if p.allDone() || p.initialise() {
		p.runContainers()
	}
	p.stopSidecars()
	killEverything()
	p.change(func() { p.state.Ended = true })
}

// allDone tells a pod whose containers had all ended for good before the machine was started anew.
func (p *pod) allDone() bool {
	for _, u := range p.units[len(p.launch.Init):] {
		if u.before == nil {
			return false
		}
		u.succeeded = u.before.ExitCode == 0
		if u.again() {
			return false
		}
	}
	return true
}

// initialise runs the init steps in order and leaves the sidecars running; false: the containers must not start.
func (p *pod) initialise() bool {
	for _, u := range p.units[:len(p.launch.Init)] {
		if p.stopping.isOpen() {
			return false
		}
		if u.sidecar() {
			go u.live()
			select {
			case <-u.up.open:
			case <-u.over.open:
			case <-p.stopping.open:
			}
			continue
		}
		u.live()
		if !u.succeeded {
			return false
		}
	}
	return !p.stopping.isOpen()
}

func (p *pod) runContainers() {
	main := p.units[len(p.launch.Init):]
	if len(p.launch.Init) > 0 {
		p.change(func() {
			for _, u := range main {
				u.state.Waiting = &Waiting{Reason: "ContainerCreating"}
			}
		})
	}
	for _, u := range main {
		go u.live()
		// One after another, as a kubelet does: a postStart hook holds up those behind it.
		select {
		case <-u.launched.open:
		case <-u.over.open:
		}
	}
	for _, u := range main {
		<-u.over.open
	}
}

// stopSidecars in the reverse of their order, within what is left of the pod's grace.
func (p *pod) stopSidecars() {
	p.mu.Lock()
	if p.deadline.IsZero() {
		p.setDeadline(time.Now().Add(p.grace()))
	}
	p.mu.Unlock()
	for i := len(p.launch.Init) - 1; i >= 0; i-- {
		if u := p.units[i]; u.begun.isOpen() {
			u.dismissed.let()
			<-u.over.open
		}
	}
}

func (p *pod) find(container string) *unit {
	for _, u := range p.units {
		if u.spec.Name == container {
			return u
		}
	}
	return nil
}

// keepState writes each state to its file, then lets it be told, until the pod is over and its last state is out. So
// nothing was ever told that is not in the file: numbers never go back, whenever we die.
func (p *pod) keepState() {
	for {
		last := p.over.isOpen() // asked first: what is read after it is the last state
		made := p.keepOnce()
		if last {
			_ = os.Remove(filepath.Join(p.root, "reserve"))
			p.ended.let()
			return
		}
		select {
		case <-made:
		case <-p.over.open:
		}
	}
}

// keepOnce writes and releases the newest state; what it returns is closed when there is a newer one.
func (p *pod) keepOnce() <-chan struct{} {
	p.mu.Lock()
	content, made, known := p.newest, p.made, bytes.Equal(p.newest, p.told)
	p.mu.Unlock()
	if known {
		return made
	}
	path := filepath.Join(p.root, "state.json")
	if err := writeAtomically(path, content); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// What was set aside for this makes room for the last words.
		_ = os.Remove(filepath.Join(p.root, "reserve"))
		p.fail("the machine's disk is full: writing " + path + ": " + reasonOf(err))
		_ = writeAtomically(path, content)
	} else if err != nil {
		p.fail("state can't be kept: " + err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = content
	close(p.changed)
	p.changed = make(chan struct{})
	return made
}

func writeAtomically(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	return os.Rename(temporary, path)
}

func clip(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return text
}
