package main

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// The standard streams of a run: pipes, or a terminal of its own. Output goes to the log and to whoever is attached;
// input comes from whoever is attached.

type streams struct {
	spec     *Container
	log      *runLog
	child    [3]*os.File
	out, err *os.File // our ends; err is nil with a terminal
	pumps    sync.WaitGroup

	mu       sync.Mutex
	in       *os.File // nil: closed, or the container reads nothing
	attached map[*attachment]bool
}

func openStreams(spec *Container, log *runLog) (*streams, error) {
	s := &streams{spec: spec, log: log, attached: map[*attachment]bool{}}
	if spec.TTY {
		return s, s.openTerminal()
	}
	var err error
	if s.out, s.child[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	if s.err, s.child[2], err = os.Pipe(); err != nil {
		return nil, err
	}
	if spec.Stdin {
		s.child[0], s.in, err = os.Pipe()
	} else {
		s.child[0], err = os.Open(os.DevNull)
	}
	return s, err
}

func (s *streams) openTerminal() error {
	master, slave, err := openTerminal()
	if err != nil {
		return refuse(err, "a terminal")
	}
	s.child = [3]*os.File{slave, slave, slave}
	s.out = master
	if s.spec.Stdin {
		s.in = master
	}
	return nil
}

func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var number, unlocked uint32
	err = ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	if err == nil {
		err = ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

// ioctl without File.Fd(), which would make the descriptor blocking and its reads uninterruptible.
func ioctl(file *os.File, request uintptr, argument unsafe.Pointer) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *streams) attributes() syscall.SysProcAttr {
	return syscall.SysProcAttr{Setctty: s.spec.TTY}
}

func (s *streams) closeChild() {
	for _, file := range s.child {
		file.Close()
	}
}

// abandon is for a run that never began.
func (s *streams) abandon() {
	for _, file := range []*os.File{s.out, s.err, s.in} {
		if file != nil {
			file.Close()
		}
	}
}

func (s *streams) pump() {
	s.pumps.Add(1)
	go s.copy(s.out, "stdout", frameStdout)
	if s.err != nil {
		s.pumps.Add(1)
		go s.copy(s.err, "stderr", frameStderr)
	}
}

func (s *streams) copy(from *os.File, name string, kind byte) {
	defer s.pumps.Done()
	lines := &stream{log: s.log, name: name}
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			lines.write(buffer[:n])
			s.tell(kind, buffer[:n])
		}
		if err != nil {
			lines.end()
			return
		}
	}
}

// drain takes the last of the output; a process that got away with our pipe holds it up for no longer than a second.
func (s *streams) drain() {
	done := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
		for _, file := range []*os.File{s.out, s.err} {
			if file != nil {
				_ = file.SetReadDeadline(time.Now())
			}
		}
		<-done
	}
	s.closeInput()
	s.out.Close()
	if s.err != nil {
		s.err.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.attached {
		a.finish()
	}
	s.attached = nil
}

func (s *streams) tell(kind byte, data []byte) {
	s.mu.Lock()
	listeners := make([]*attachment, 0, len(s.attached))
	for a := range s.attached {
		listeners = append(listeners, a)
	}
	s.mu.Unlock()
	for _, a := range listeners {
		if !a.send(kind, data) {
			s.detach(a)
		}
	}
}

func (s *streams) attach(a *attachment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == nil {
		return false
	}
	s.attached[a] = true
	return true
}

func (s *streams) detach(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.attached, a)
}

func (s *streams) input(data []byte) error {
	s.mu.Lock()
	in := s.in
	s.mu.Unlock()
	if in == nil {
		return os.ErrClosed
	}
	_, err := in.Write(data)
	return err
}

// endOfInput is what stdin_once asks for when its first client has ended. A terminal can't be half closed: it gets ^D.
func (s *streams) endOfInput() {
	if s.spec.TTY {
		_ = s.input([]byte{4})
		return
	}
	s.closeInput()
}

func (s *streams) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil && s.in != s.out {
		s.in.Close()
	}
	s.in = nil
}

type windowSize struct {
	Rows, Columns, x, y uint16
}

func (s *streams) resize(rows, columns uint16) {
	if s.spec.TTY {
		setSize(s.out, size{rows, columns})
	}
}

func setSize(terminal *os.File, wanted size) {
	_ = ioctl(terminal, syscall.TIOCSWINSZ, unsafe.Pointer(&windowSize{Rows: wanted.Rows, Columns: wanted.Columns}))
}
