package main

import (
	"encoding/json"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

type spawned struct {
	pid    int
	exited <-chan exit
}

// spawn starts `runner enter` with the entry and returns when the program itself runs, or with a *refusal.
func (p *pod) spawn(e *entry, streams [3]*os.File, sys syscall.SysProcAttr) (spawned, error) {
	config, configEnd, err := os.Pipe()
	if err != nil {
		return spawned{}, err
	}
	defer config.Close()
	answer, answerEnd, err := os.Pipe()
	if err != nil {
		configEnd.Close()
		return spawned{}, err
	}
	defer answer.Close()
	sys.Setsid = true
	sys.Pdeathsig = syscall.SIGKILL
	if p.mayMount && e.Join == 0 {
		sys.Unshareflags = syscall.CLONE_NEWNS
	}
	attributes := &syscall.ProcAttr{
		Files: []uintptr{streams[0].Fd(), streams[1].Fd(), streams[2].Fd(), config.Fd(), answerEnd.Fd()},
		Env:   os.Environ(),
		Sys:   &sys,
	}
	pid, exited, err := p.reaper.start(func() (int, error) {
		return syscall.ForkExec("/proc/self/exe", []string{"runner", "enter"}, attributes)
	})
	answerEnd.Close()
	if err != nil {
		configEnd.Close()
		return spawned{}, refuse(err, "starting a process")
	}
	content, _ := json.Marshal(e)
	_, _ = configEnd.Write(content)
	configEnd.Close()
	told, _ := io.ReadAll(answer)
	if len(told) > 0 {
		problem := &refusal{}
		_ = json.Unmarshal(told, problem)
		<-exited
		return spawned{}, problem
	}
	return spawned{pid, exited}, nil
}

// timeScale divides back-off and the pauses of probes. For tests alone.
var timeScale = func() float64 {
	var scale float64
	if json.Unmarshal([]byte(os.Getenv("RUNNER_TIME_SCALE")), &scale) == nil && scale > 0 {
		return scale
	}
	return 1
}()

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func scaled(s float64) time.Duration { return seconds(s / timeScale) }

func pauseMs(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// gate opens once and stays open.
type gate struct {
	once sync.Once
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) let() { g.once.Do(func() { close(g.open) }) }

func (g *gate) isOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}
