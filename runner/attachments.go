package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"sync"
	"time"
)

// Attaching carries frames over the control socket: kind (1 byte), length (4 bytes, big-endian), payload.

const (
	frameStdin byte = iota
	frameStdout
	frameStderr
	frameResize // {"rows": 24, "columns": 80}
	frameEndOfInput
	frameEnd // of the run, or of the process: its exit code as JSON
)

const maxFrame = 64 << 10

type size struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

func writeFrame(w io.Writer, kind byte, data []byte) error {
	frame := make([]byte, 5+len(data))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	copy(frame[5:], data)
	_, err := w.Write(frame)
	return err
}

func readFrame(r io.Reader, buffer []byte) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxFrame {
		return 0, nil, io.ErrShortBuffer
	}
	_, err := io.ReadFull(r, buffer[:length])
	return head[0], buffer[:length], err
}

type attachment struct {
	mu   sync.Mutex
	conn net.Conn
}

// A client that takes nothing may hold up the container for this long, once; then it is let go.
const attachPatience = 5 * time.Second

func (a *attachment) send(kind byte, data []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.conn.SetWriteDeadline(time.Now().Add(attachPatience))
	if err := writeFrame(a.conn, kind, data); err != nil {
		a.conn.Close()
		return false
	}
	return true
}

func (a *attachment) finish() {
	a.send(frameEnd, nil)
	a.conn.Close()
}

// serve reads what the client sends until it goes.
func (a *attachment) serve(s *streams, from io.Reader) {
	defer s.detach(a)
	defer a.conn.Close()
	buffer := make([]byte, maxFrame)
	fed := false
	for {
		kind, data, err := readFrame(from, buffer)
		if err != nil {
			break
		}
		switch kind {
		case frameStdin:
			fed = true
			if s.input(data) != nil {
				continue // the container reads nothing (more); its output still interests
			}
		case frameEndOfInput:
			fed = true
			if s.spec.StdinOnce {
				s.endOfInput()
			}
		case frameResize:
			var wanted size
			if json.Unmarshal(data, &wanted) == nil {
				s.resize(wanted.Rows, wanted.Columns)
			}
		}
	}
	if fed && s.spec.StdinOnce {
		s.endOfInput()
	}
}
