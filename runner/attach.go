package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"
)

// attach joins a container's own streams; with a terminal on both sides ours becomes raw and passes its size on.
func attach(o *options) int {
	conn := reach(o.root, hello{Op: "attach", Container: o.container})
	if conn == nil {
		return complain(exitCannot, "container %q is not running: nobody supervises the pod", o.container)
	}
	defer conn.Close()
	from, joined, code := join(conn)
	if code != 0 {
		return code
	}
	send := sender(conn)
	if joined.TTY && isTerminal(os.Stdin) {
		defer makeRaw(os.Stdin)()
		passSizes(send)
	}
	if o.stdin {
		go feed(send)
	}
	return receive(from)
}

// join reads the answer; a code that isn't 0 ends us.
func join(conn net.Conn) (*bufio.Reader, joining, int) {
	from := bufio.NewReaderSize(conn, 64<<10)
	first, err := from.ReadBytes('\n')
	var joined joining
	if err != nil || json.Unmarshal(first, &joined) != nil {
		return nil, joined, complain(exitCannot, "the supervising process has gone")
	}
	if joined.Error != "" {
		return nil, joined, complain(joined.Code, "%s", joined.Error)
	}
	return from, joined, 0
}

func sender(conn net.Conn) func(byte, []byte) error {
	var writing sync.Mutex
	return func(kind byte, data []byte) error {
		writing.Lock()
		defer writing.Unlock()
		return writeFrame(conn, kind, data)
	}
}

func feed(send func(byte, []byte) error) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := os.Stdin.Read(buffer)
		if n > 0 && send(frameStdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = send(frameEndOfInput, nil)
			return
		}
	}
}

func receive(from io.Reader) int {
	buffer := make([]byte, maxFrame)
	for {
		kind, data, err := readFrame(from, buffer)
		if err != nil {
			return complain(exitCannot, "the supervising process let go of us")
		}
		switch kind {
		case frameStdout:
			_, err = os.Stdout.Write(data)
		case frameStderr:
			_, err = os.Stderr.Write(data)
		case frameEnd:
			code := 0
			_ = json.Unmarshal(data, &code)
			return code
		}
		if err != nil {
			return exitCannot
		}
	}
}

func passSizes(send func(byte, []byte) error) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	go func() {
		for {
			var now windowSize
			if ioctl(os.Stdin, syscall.TIOCGWINSZ, unsafe.Pointer(&now)) == nil && now.Rows > 0 {
				content, _ := json.Marshal(size{now.Rows, now.Columns})
				if send(frameResize, content) != nil {
					return
				}
			}
			<-changes
		}
	}()
}

func isTerminal(file *os.File) bool {
	var settings syscall.Termios
	return ioctl(file, syscall.TCGETS, unsafe.Pointer(&settings)) == nil
}

// makeRaw leaves every key to the other side; what it returns puts the terminal back.
func makeRaw(file *os.File) func() {
	var before syscall.Termios
	if ioctl(file, syscall.TCGETS, unsafe.Pointer(&before)) != nil {
		return func() {}
	}
	raw := before
	raw.Iflag &^= syscall.IGNBRK | syscall.BRKINT | syscall.PARMRK | syscall.ISTRIP | syscall.INLCR | syscall.IGNCR |
		syscall.ICRNL | syscall.IXON
	raw.Oflag &^= syscall.OPOST
	raw.Lflag &^= syscall.ECHO | syscall.ECHONL | syscall.ICANON | syscall.ISIG | syscall.IEXTEN
	raw.Cflag = raw.Cflag&^(syscall.CSIZE|syscall.PARENB) | syscall.CS8
	raw.Cc[syscall.VMIN], raw.Cc[syscall.VTIME] = 1, 0
	_ = ioctl(file, syscall.TCSETS, unsafe.Pointer(&raw))
	return func() { _ = ioctl(file, syscall.TCSETS, unsafe.Pointer(&before)) }
}
