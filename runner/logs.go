package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A run's log in the CRI format: time, stream, F or P, text. A text longer than maxText is told in parts (P, then F);
// so is one that ends without a newline. Rotation keeps keptFiles of maxLog each: n.log is the newest, then n.log.1.

const (
	maxText   = 16 << 10
	maxLog    = 10 << 20
	keptFiles = 5
	flushAt   = 64 << 10
	logTime   = "2006-01-02T15:04:05.000000000Z07:00"
)

type runLog struct {
	mu   sync.Mutex
	path string
	file *os.File
	// start is the file's position in the run's log.
	start, size int64
	out         []byte
	// broken is told the first failed write; nothing is written after it.
	broken func(error)
	failed bool
}

func logPath(root, container string, restart int) string {
	return filepath.Join(root, "logs", container, strconv.Itoa(restart)+".log")
}

func openLog(path string, broken func(error)) (*runLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l := &runLog{path: path, broken: broken}
	return l, l.reopen()
}

func (l *runLog) reopen() (err error) {
	l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err == nil {
		l.size, err = l.file.Seek(0, 2)
	}
	return err
}

// forgetLogs removes all runs before the previous one.
func forgetLogs(root, container string, restart int) {
	paths, _ := filepath.Glob(filepath.Join(root, "logs", container, "*.log*"))
	for _, path := range paths {
		number, err := strconv.Atoi(strings.SplitN(filepath.Base(path), ".", 2)[0])
		if err == nil && number < restart-1 {
			_ = os.Remove(path)
		}
	}
}

// stream is one of the two that a log is made of. Its rest is a line begun and not ended.
type stream struct {
	log  *runLog
	name string
	rest []byte
}

func (s *stream) write(data []byte) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	prefix := time.Now().UTC().AppendFormat(make([]byte, 0, 64), logTime)
	prefix = append(append(append(prefix, ' '), s.name...), ' ')
	l.out = l.out[:0]
	for len(data) > 0 {
		room := maxText - len(s.rest)
		end := bytes.IndexByte(data[:min(len(data), room+1)], '\n')
		switch {
		case end >= 0:
			l.add(prefix, 'F', s.rest, data[:end])
			s.rest = s.rest[:0]
			data = data[end+1:]
		case len(data) > room:
			l.add(prefix, 'P', s.rest, data[:room])
			s.rest = s.rest[:0]
			data = data[room:]
		default:
			s.rest = append(s.rest, data...)
			data = nil
		}
		if len(l.out) >= flushAt { // many short lines grow to many times their size
			l.flush()
			l.out = l.out[:0]
		}
	}
	l.flush()
}

// end writes what has no newline behind it.
func (s *stream) end() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if len(s.rest) > 0 {
		prefix := []byte(time.Now().UTC().Format(logTime) + " " + s.name + " ")
		s.log.out = s.log.out[:0]
		s.log.add(prefix, 'P', s.rest, nil)
		s.rest = nil
		s.log.flush()
	}
}

func (l *runLog) add(prefix []byte, tag byte, parts ...[]byte) {
	l.out = append(append(l.out, prefix...), tag, ' ')
	for _, part := range parts {
		l.out = append(l.out, part...)
	}
	l.out = append(l.out, '\n')
}

func (l *runLog) flush() {
	if len(l.out) == 0 || l.failed {
		return
	}
	n, err := l.file.Write(l.out)
	l.size += int64(n)
	if err == nil && l.size >= maxLog {
		err = l.rotate()
	}
	if err != nil {
		l.failed = true
		l.broken(fmt.Errorf("writing %s: %w", l.path, bare(err)))
	}
}

func (l *runLog) rotate() error {
	_ = l.file.Close()
	if err := os.Rename(l.path, l.path+"."+strconv.FormatInt(l.start, 10)); err != nil {
		return err
	}
	l.start += l.size
	older := olderParts(l.path)
	for len(older) > keptFiles-1 {
		_ = os.Remove(older[0].path)
		older = older[1:]
	}
	return l.reopen()
}

func (l *runLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Chmod(finishedLog)
	_ = l.file.Close()
	l.failed = true
}

const finishedLog = 0o440

type part struct {
	path  string
	start int64
}

// olderParts are the rotated files of a log, oldest first.
func olderParts(path string) []part {
	names, _ := filepath.Glob(path + ".*")
	var found []part
	for _, name := range names {
		if start, err := strconv.ParseInt(strings.TrimPrefix(name, path+"."), 10, 64); err == nil {
			found = append(found, part{name, start})
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].start < found[j].start })
	return found
}

// lastOutput gives the end of what a run wrote, without the log's own words: at most 80 lines and 2048 bytes.
func lastOutput(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	const window = 32 << 10
	size, _ := file.Seek(0, 2)
	start := max(0, size-window)
	buffer := make([]byte, size-start)
	n, _ := file.ReadAt(buffer, start)
	lines := strings.SplitAfter(string(buffer[:n]), "\n")
	if start > 0 && len(lines) > 1 {
		lines = lines[1:]
	}
	var text strings.Builder
	for _, each := range lines[max(0, len(lines)-81):] {
		fields := strings.SplitN(each, " ", 4)
		if len(fields) == 4 {
			if fields[2] == "P" {
				fields[3] = strings.TrimSuffix(fields[3], "\n")
			}
			text.WriteString(fields[3])
		}
	}
	return tail(text.String(), 2048)
}

func tail(text string, limit int) string {
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return strings.ToValidUTF8(text, "")
}
