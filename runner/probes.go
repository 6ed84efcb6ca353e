package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Probes and hooks. A probe's worker lives as long as the run does; while the pod stops, readiness alone goes on.

// series runs a probe again and again and tells each turn: true after successThreshold successes in a row, false after
// failureThreshold failures in a row. It ends when told answers false, or with the run.
func (u *unit) series(within context.Context, r *run, kind string, probe *Probe, told func(healthy bool) bool) {
	pause := scaled(float64(probe.InitialDelayS)) - time.Since(r.began)
	row, before := 0, false
	for sleep(within, pause) {
		err := u.try(within, r, probe)
		if within.Err() != nil {
			return
		}
		if kind != "Readiness" && u.pod.stopping.isOpen() {
			return
		}
		if healthy := err == nil; row == 0 || healthy != before {
			row, before = 1, healthy
		} else {
			row++
		}
		if err != nil {
			u.pod.record(u.spec.Name, "Unhealthy", true, "%s probe failed: %s", kind, err)
		}
		if before && row >= probe.SuccessThreshold || !before && row >= probe.FailureThreshold {
			if !told(before) {
				return
			}
		}
		pause = scaled(float64(probe.PeriodS))
	}
}

func sleep(within context.Context, pause time.Duration) bool {
	timer := time.NewTimer(max(0, pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-within.Done():
		return false
	}
}

func (u *unit) try(within context.Context, r *run, probe *Probe) error {
	limited, cancel := context.WithTimeout(within, time.Duration(probe.TimeoutS)*time.Second)
	defer cancel()
	err := u.act(limited, r, &probe.Action)
	if err != nil && limited.Err() != nil && within.Err() == nil {
		return fmt.Errorf("timed out after %ds", probe.TimeoutS)
	}
	return err
}

func (u *unit) probeStartup(within context.Context, r *run) bool {
	good := false
	u.series(within, r, "Startup", u.spec.Startup, func(healthy bool) bool {
		good = healthy
		if healthy {
			u.pod.change(u.setStarted)
		}
		return false
	})
	if !good && within.Err() == nil && !u.pod.stopping.isOpen() {
		u.terminate(r, u.soon(u.spec.Startup.GraceS, r.exited), true,
			"Container "+u.spec.Name+" failed startup probe, will be restarted")
	}
	return good
}

func (u *unit) probeLiveness(within context.Context, r *run) {
	u.series(within, r, "Liveness", u.spec.Liveness, func(healthy bool) bool {
		if !healthy {
			u.terminate(r, u.soon(u.spec.Liveness.GraceS, r.exited), true,
				"Container "+u.spec.Name+" failed liveness probe, will be restarted")
		}
		return healthy
	})
}

func (u *unit) probeReadiness(within context.Context, r *run) {
	for {
		_, changed := u.pod.snapshot()
		u.pod.mu.Lock()
		started := u.state.Started
		u.pod.mu.Unlock()
		if started {
			break
		}
		select {
		case <-changed:
		case <-within.Done():
			return
		}
	}
	u.series(within, r, "Readiness", u.spec.Readiness, func(healthy bool) bool {
		u.pod.mu.Lock()
		defer u.pod.mu.Unlock()
		if within.Err() == nil && u.state.Ready != healthy {
			u.state.Ready = healthy
			u.pod.publish()
		}
		return true
	})
}

// act does what an action says; nil is success.
func (u *unit) act(within context.Context, r *run, a *Action) error {
	host := a.Host
	if host == "" {
		host = "127.0.0.1"
	}
	address := net.JoinHostPort(host, strconv.Itoa(a.Port))
	switch a.Kind {
	case "exec":
		return u.actExec(within, r, a.Command)
	case "http":
		warning, err := httpGet(within, a, address)
		if warning != "" {
			u.pod.record(u.spec.Name, "ProbeWarning", true, "%s", warning)
		}
		return err
	case "tcp":
		conn, err := (&net.Dialer{}).DialContext(within, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	case "grpc":
		return grpcHealth(within, address, a.Service)
	case "sleep":
		if !sleep(within, seconds(float64(a.Seconds))) {
			return within.Err()
		}
		return nil
	}
	return fmt.Errorf("unknown action %q", a.Kind)
}

// actExec runs a command as the container's processes run; it and what it started die with the time given.
func (u *unit) actExec(within context.Context, r *run, command []string) error {
	output, outputEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	defer output.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		outputEnd.Close()
		return err
	}
	e := u.furtherEntry(r, command)
	e.Mark = u.mark
	child, err := u.pod.spawn(e, [3]*os.File{null, outputEnd, outputEnd}, syscall.SysProcAttr{})
	null.Close()
	outputEnd.Close()
	if err != nil {
		var problem *refusal
		if errors.As(err, &problem) {
			return errors.New(problem.Message)
		}
		return err
	}
	said := make(chan string, 1)
	go func() {
		var text bytes.Buffer
		buffer := make([]byte, 4096)
		for {
			n, err := output.Read(buffer)
			if room := 10<<10 - text.Len(); room > 0 {
				text.Write(buffer[:min(n, room)])
			}
			if err != nil {
				said <- clean(text.String())
				return
			}
		}
	}()
	select {
	case e := <-child.exited:
		_ = output.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // it may have left something running
		text := <-said
		if code := e.code(); code != 0 {
			if text = strings.TrimSpace(text); text != "" {
				return errors.New(text)
			}
			return fmt.Errorf("command %q exited with %d", command, code)
		}
		return nil
	case <-within.Done():
		killSession(child.pid)
		<-child.exited
		return fmt.Errorf("command %q was cut short", command)
	}
}

// furtherEntry is for a process that joins a run.
func (u *unit) furtherEntry(r *run, command []string) *entry {
	c := u.spec
	e := &entry{
		Argv: command, Env: c.Env, Dir: c.WorkingDir, User: c.User, Groups: c.Groups,
		NoNewPrivs: c.NoNewPrivileges, Drop: dropped(c.DropCapabilities), Bound: true, OwnStreams: true,
		Hostname: u.pod.launch.Hostname,
	}
	if u.pod.mayMount {
		e.Join = r.pid
	}
	return e
}

// killSession ends the process that leads a session, with its session and descendants.
func killSession(leader int) {
	for _, p := range append(descendants(leader), sessionOf(leader)...) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(leader, syscall.SIGKILL)
}

func sessionOf(leader int) []process {
	var found []process
	for _, p := range descendants(os.Getpid()) {
		if p.session == leader {
			found = append(found, p)
		}
	}
	return found
}

func clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "�")
}
