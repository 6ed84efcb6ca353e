package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// The supervising process is the subreaper of everything that it starts: whatever loses its parent becomes ours, so
// that nothing of a container outlives it unseen. One goroutine reaps; nobody else may wait for a child.

type exit struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
	at     time.Time
}

// code is the exit code as a container runtime tells it.
func (e exit) code() int {
	if e.status.Signaled() {
		return 128 + int(e.status.Signal())
	}
	return e.status.ExitStatus()
}

type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan exit
	// cpu is what reaped orphans used, by the mark that they bore.
	cpu map[int]time.Duration
}

const (
	prSetPdeathsig      = 1
	prCapbsetDrop       = 24
	prSetChildSubreaper = 36
	prSetNoNewPrivs     = 38
)

func prctl(option, argument uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, argument, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func newReaper() (*reaper, error) {
	if err := prctl(prSetChildSubreaper, 1); err != nil {
		return nil, err
	}
	r := &reaper{waiting: map[int]chan exit{}, cpu: map[int]time.Duration{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			for r.reapOne() {
			}
		}
	}()
	return r, nil
}

// start runs fork under the lock, so that a child which is gone at once still finds who waits for it.
func (r *reaper) start(fork func() (int, error)) (int, <-chan exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	ended := make(chan exit, 1)
	r.waiting[pid] = ended
	return pid, ended, nil
}

func (r *reaper) reapOne() bool {
	pid := peekEnded()
	if pid <= 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	mark := markOf(pid) // a zombie still bears it
	var e exit
	if _, err := syscall.Wait4(pid, &e.status, syscall.WNOHANG, &e.usage); err != nil {
		return true
	}
	e.at = time.Now()
	if ended := r.waiting[pid]; ended != nil {
		delete(r.waiting, pid)
		ended <- e
	} else {
		r.cpu[mark] += spent(&e.usage)
	}
	return true
}

func (r *reaper) orphansUsed(mark int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cpu[mark]
}

func spent(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// peekEnded names a child that has ended, and leaves it to be waited for; 0 when there is none.
func peekEnded() int {
	const pAll, wExited, wNoHang, wNoWait = 0, 4, 1, 0x01000000
	var info [128]byte // siginfo_t
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info[0])),
		wExited|wNoHang|wNoWait, 0, 0)
	if errno != 0 {
		return 0
	}
	// si_signo, si_errno, si_code, padding to 8 bytes, then si_pid.
	return int(*(*int32)(unsafe.Pointer(&info[16])))
}

// output runs a program of the machine and gives what it printed.
func (r *reaper) output(within context.Context, path string, arguments ...string) ([]byte, error) {
	from, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		end.Close()
		return nil, err
	}
	pid, exited, err := r.start(func() (int, error) {
		return syscall.ForkExec(path, append([]string{path}, arguments...), &syscall.ProcAttr{
			Files: []uintptr{null.Fd(), end.Fd(), null.Fd()}, Env: os.Environ(),
			Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
	})
	null.Close()
	end.Close()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(within, func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
	defer stop()
	content, _ := io.ReadAll(io.LimitReader(from, 1<<20))
	from.Close()
	if ended := <-exited; ended.code() != 0 {
		return nil, fmt.Errorf("%s exited with %d", path, ended.code())
	}
	return content, nil
}
