package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// minimumAfterHook is left for the stop signal when a preStop hook took all of the grace.
const minimumAfterHook = 2 * time.Second

// terminate ends a run: hook, stop signal, and SIGKILL for all of it when killNow opens. It returns when the process
// has exited.
func (u *unit) terminate(r *run, killNow *gate, hook bool, why string) {
	u.pod.change(func() {
		r.killed = true
		u.pod.occur(u.spec.Name, "Killing", false, "%s", why)
	})
	hadTime := !killNow.isOpen()
	if hook && u.spec.PreStop != nil && hadTime {
		u.preStop(r, killNow)
	}
	if r.exited.isOpen() {
		return
	}
	signal, _ := signalNumber(u.spec.StopSignal)
	_ = syscall.Kill(r.pid, signal)
	select {
	case <-r.exited.open:
		return
	case <-killNow.open:
	}
	if hadTime && hook && u.spec.PreStop != nil {
		select {
		case <-r.exited.open:
			return
		case <-time.After(minimumAfterHook):
		}
	}
	killMembers(r.pid, u.mark)
	_ = syscall.Kill(r.pid, syscall.SIGKILL)
	<-r.exited.open
}

func (u *unit) preStop(r *run, killNow *gate) {
	within, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-killNow.open:
		case <-r.exited.open:
		case <-within.Done():
		}
		cancel()
	}()
	if err := u.hook(within, r, u.spec.PreStop); err != nil && !r.exited.isOpen() {
		u.pod.record(u.spec.Name, "FailedPreStopHook", true, "PreStopHook failed: %s", err)
	}
}

// hook does what an action says. Of HTTP it asks for an answer only, whatever its status, as a kubelet does.
func (u *unit) hook(within context.Context, r *run, a *Action) error {
	err := u.act(within, r, a)
	var status badStatus
	if errors.As(err, &status) {
		return nil
	}
	return err
}

// soon is the grace of a probe: its own or the pod's, and never longer than what is left of a pod that stops.
func (u *unit) soon(own *int, done *gate) *gate {
	grace := u.pod.grace()
	if own != nil {
		grace = time.Duration(*own) * time.Second
	}
	killNow := newGate()
	if grace == 0 {
		killNow.let()
		return killNow
	}
	go func() {
		select {
		case <-time.After(grace):
		case <-u.pod.killNow.open:
		case <-done.open:
		}
		killNow.let()
	}()
	return killNow
}

// watch runs the hook and the probes of a run until done opens.
func (u *unit) watch(r *run, done *gate) {
	within, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.exited.open:
		case <-done.open:
		}
		cancel()
	}()
	if u.spec.PostStart != nil && !u.postStart(within, r) {
		return
	}
	u.launched.let()
	if u.spec.MemoryLimitBytes != nil {
		go u.holdMemory(within, r)
	}
	if u.spec.Readiness != nil {
		go u.probeReadiness(within, r)
	}
	if u.spec.Startup != nil && !u.probeStartup(within, r) {
		return
	}
	if u.spec.Liveness != nil {
		u.probeLiveness(within, r)
	}
	<-within.Done()
}

func (u *unit) postStart(within context.Context, r *run) bool {
	err := u.hook(within, r, u.spec.PostStart)
	if within.Err() != nil {
		return false
	}
	if err != nil {
		u.pod.record(u.spec.Name, "FailedPostStartHook", true, "PostStartHook failed: %s", err)
		u.terminate(r, u.soon(nil, r.exited), true, "FailedPostStartHook")
		return false
	}
	u.pod.change(u.noteStarted)
	return true
}
