package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The control socket: where the other sub-commands reach the supervising process. A connection says in its first line
// what it is for.

type hello struct {
	Op        string `json:"op"`
	Container string `json:"container,omitempty"`
	// For exec: what to run, with what besides the container's environment, and the size if it is to have a terminal.
	Argv []string    `json:"argv,omitempty"`
	Env  [][2]string `json:"env,omitempty"`
	Size *size       `json:"size,omitempty"`
}

// socketPath is short however deep the root lies: a socket's path may have 107 bytes only.
func socketPath(root string) (path string, folder *os.File, err error) {
	folder, err = os.Open(root)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(folder.Fd())) + "/control.sock", folder, nil
}

// dial connects and says what for; files, if any, go along.
func dial(root string, what hello, files ...*os.File) (*net.UnixConn, error) {
	path, folder, err := socketPath(root)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, file := range files {
			fds = append(fds, int(file.Fd()))
		}
		rights = syscall.UnixRights(fds...)
	}
	content := line(what)
	n, _, err := conn.WriteMsgUnix(content, rights, nil)
	if err == nil && n < len(content) {
		_, err = conn.Write(content[n:])
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// readHello gives what the first line says, the files that came with it, and a reader of what follows.
func readHello(conn *net.UnixConn) (what hello, files []*os.File, from *bufio.Reader, err error) {
	var text []byte
	buffer, rights := make([]byte, 4096), make([]byte, 256)
	for bytes.IndexByte(text, '\n') < 0 {
		n, rightsLength, _, _, err := conn.ReadMsgUnix(buffer, rights)
		if err != nil || n == 0 || len(text) > 8<<20 {
			return what, files, nil, io.ErrUnexpectedEOF
		}
		text = append(text, buffer[:n]...)
		messages, _ := syscall.ParseSocketControlMessage(rights[:rightsLength])
		for i := range messages {
			fds, _ := syscall.ParseUnixRights(&messages[i])
			for _, fd := range fds {
				syscall.CloseOnExec(fd)
				files = append(files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	end := bytes.IndexByte(text, '\n')
	err = json.Unmarshal(text[:end], &what)
	return what, files, bufio.NewReader(io.MultiReader(bytes.NewReader(text[end+1:]), conn)), err
}

type control struct {
	pod       *pod
	listener  *net.UnixListener
	folder    *os.File
	followers sync.WaitGroup
}

func listen(p *pod) (*control, error) {
	_ = os.Remove(filepath.Join(p.root, "control.sock"))
	path, folder, err := socketPath(p.root)
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	_ = os.Chmod(filepath.Join(p.root, "control.sock"), 0o600)
	c := &control{pod: p, listener: listener, folder: folder}
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(100 * time.Millisecond) // out of descriptors, say
				continue
			}
			c.followers.Add(1)
			go func() {
				defer c.followers.Done()
				defer conn.Close()
				c.serve(conn)
			}()
		}
	}()
	return c, nil
}

// close lets those who follow hear the end first.
func (c *control) close() {
	done := make(chan struct{})
	go func() {
		c.followers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	c.listener.Close()
}

func (c *control) serve(conn *net.UnixConn) {
	what, files, from, err := readHello(conn)
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	if err != nil {
		return
	}
	switch what.Op {
	case "follow":
		c.follow(conn, from)
	case "attach":
		c.attach(conn, from, what)
	case "exec":
		c.exec(conn, from, what, files)
	}
}

func (c *control) follow(conn net.Conn, from *bufio.Reader) {
	var writing sync.Mutex
	write := func(content []byte) error {
		writing.Lock()
		defer writing.Unlock()
		_, err := conn.Write(content)
		return err
	}
	gone := newGate()
	go func() {
		defer gone.let()
		for {
			text, err := from.ReadBytes('\n')
			if err != nil {
				return
			}
			go func() { _ = write(line(Line{Answer: c.obey(text)})) }()
		}
	}()
	var before []byte
	for {
		last := c.pod.ended.isOpen()
		told, changed := c.pod.snapshot()
		if !bytes.Equal(told, before) && write(append(append([]byte(`{"state":`), told...), "}\n"...)) != nil {
			return
		}
		before = told
		if last {
			return
		}
		select {
		case <-changed:
		case <-c.pod.ended.open:
		case <-gone.open:
			return
		}
	}
}

func (c *control) obey(text []byte) *Answer {
	var command Command
	if err := json.Unmarshal(text, &command); err != nil {
		return &Answer{Error: "not a command: " + err.Error()}
	}
	answer := &Answer{ID: command.ID}
	switch command.Do {
	case "stop":
		grace := c.pod.grace()
		if command.GraceS != nil {
			grace = seconds(max(0, *command.GraceS))
		}
		c.pod.stop(grace)
	case "usage":
		answer.Usage = c.pod.usage()
	case "update":
		if err := c.pod.updateVolume(command.Volume); err != nil {
			answer.Error = err.Error()
		}
	default:
		answer.Error = fmt.Sprintf("unknown command %q", command.Do)
	}
	return answer
}

// joining is the answer to attach and exec.
type joining struct {
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"`
	TTY   bool   `json:"tty,omitempty"`
}

func (c *control) running(container string) (*unit, *run, string) {
	u := c.pod.find(container)
	if u == nil {
		return nil, nil, fmt.Sprintf("container %q is not in the pod", container)
	}
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	if u.run == nil {
		return u, nil, fmt.Sprintf("container %q is not running", container)
	}
	return u, u.run, ""
}

func (c *control) attach(conn net.Conn, from *bufio.Reader, what hello) {
	_, r, problem := c.running(what.Container)
	if problem != "" {
		_, _ = conn.Write(line(joining{Error: problem, Code: exitCannot}))
		return
	}
	a := &attachment{conn: conn}
	a.mu.Lock() // nothing may come before the answer
	answer := joining{TTY: r.streams.spec.TTY}
	ok := r.streams.attach(a)
	if !ok {
		answer = joining{Error: fmt.Sprintf("container %q is not running", what.Container), Code: exitCannot}
	}
	_, err := conn.Write(line(answer))
	a.mu.Unlock()
	if ok && err == nil {
		a.serve(r.streams, from)
	}
}
