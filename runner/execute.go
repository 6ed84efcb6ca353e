package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// exec: the supervising process starts it, as a member of the container. Without a terminal it gets our own streams
// themselves; with one it gets a terminal of its own, and ours becomes raw and is carried over, as attach does it.

func execute(o *options) int {
	if len(o.rest) == 0 {
		return complain(exitUsage, "exec: no command")
	}
	what := hello{Op: "exec", Container: o.container, Argv: o.rest}
	for _, pair := range o.env {
		name, value, _ := strings.Cut(pair, "=")
		what.Env = append(what.Env, [2]string{name, value})
	}
	var files []*os.File
	if isTerminal(os.Stdin) {
		var now windowSize
		_ = ioctl(os.Stdin, syscall.TIOCGWINSZ, unsafe.Pointer(&now))
		what.Size = &size{now.Rows, now.Columns}
		term := os.Getenv("TERM")
		setDefault(&term, "xterm")
		what.Env = append([][2]string{{"TERM", term}}, what.Env...)
	} else {
		files = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	}
	conn := reach(o.root, what, files...)
	if conn == nil {
		return complain(exitCannot, "container %q is not running: nobody supervises the pod", o.container)
	}
	defer conn.Close()
	from, joined, code := join(conn)
	if code != 0 {
		return code
	}
	leaving := make(chan os.Signal, 1)
	signal.Notify(leaving, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	go func() {
		<-leaving
		conn.Close()
	}()
	if joined.TTY {
		defer makeRaw(os.Stdin)()
		send := sender(conn)
		passSizes(send)
		go feed(send)
	} else {
		go func() {
			waitForHangUp(os.Stdout)
			conn.Close()
		}()
		_ = os.Stdin.Close() // it is the process's now: we must not hold it open
	}
	return receive(from)
}

// waitForHangUp returns when nobody reads any more what goes to file: the ssh channel has closed.
func waitForHangUp(file *os.File) {
	const hup, failed = 0x10, 0x08
	for {
		polled := struct {
			fd              int32
			events, revents int16
		}{fd: int32(file.Fd())}
		n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&polled)), 1, 0, 0, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || int(n) > 0 && polled.revents&(hup|failed) != 0 {
			return
		}
	}
}

// exec serves the other side. The process dies with its client; what it left in the background dies with the run.
func (c *control) exec(conn *net.UnixConn, from *bufio.Reader, what hello, files []*os.File) {
	u, r, problem := c.running(what.Container)
	if problem != "" || len(what.Argv) == 0 {
		_, _ = conn.Write(line(joining{Error: problem, Code: exitCannot}))
		return
	}
	e := u.furtherEntry(r, what.Argv)
	e.Mark = u.mark
	e.Env = append(append([][2]string{}, e.Env...), what.Env...)
	var master *os.File
	if what.Size != nil {
		slave, err := (*os.File)(nil), error(nil)
		if master, slave, err = openTerminal(); err != nil {
			_, _ = conn.Write(line(joining{Error: "a terminal: " + err.Error(), Code: exitCannot}))
			return
		}
		defer master.Close()
		setSize(master, *what.Size)
		files = []*os.File{slave, slave, slave}
		defer slave.Close()
	}
	if len(files) != 3 {
		return
	}
	child, err := c.pod.spawn(e, [3]*os.File(files), syscall.SysProcAttr{Setctty: master != nil})
	for _, file := range files {
		file.Close()
	}
	if err != nil {
		answer := joining{Error: err.Error(), Code: exitCannot}
		var refused *refusal
		if errors.As(err, &refused) && refused.Code != 128 {
			answer.Code = refused.Code
		}
		_, _ = conn.Write(line(answer))
		return
	}
	attend(conn, from, child, master)
}

// attend carries a process that runs until it has ended or its client has gone.
func attend(conn *net.UnixConn, from *bufio.Reader, child spawned, master *os.File) {
	a := &attachment{conn: conn}
	_, _ = conn.Write(line(joining{TTY: master != nil}))
	gone, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		serveExec(from, master)
	}()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		if master != nil {
			show(a, master)
		}
	}()
	var ended exit
	select {
	case ended = <-child.exited:
	case <-gone.Done():
		_ = syscall.Kill(-child.pid, syscall.SIGHUP)
		select {
		case <-child.exited:
		case <-time.After(time.Second):
			killSession(child.pid)
			<-child.exited
		}
		return
	}
	if master != nil {
		_ = master.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		<-shown
	}
	code, _ := json.Marshal(ended.code())
	a.send(frameEnd, code)
}

func show(a *attachment, master *os.File) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := master.Read(buffer)
		if n > 0 && !a.send(frameStdout, buffer[:n]) || err != nil {
			return
		}
	}
}

func serveExec(from io.Reader, master *os.File) {
	buffer := make([]byte, maxFrame)
	for {
		kind, data, err := readFrame(from, buffer)
		if err != nil {
			return
		}
		switch {
		case master == nil:
		case kind == frameStdin:
			_, _ = master.Write(data)
		case kind == frameEndOfInput:
			_, _ = master.Write([]byte{4})
		case kind == frameResize:
			var wanted size
			if json.Unmarshal(data, &wanted) == nil {
				setSize(master, wanted)
			}
		}
	}
}
