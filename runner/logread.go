package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// `runner logs` prints CRI lines as they lie in the files, from a place found by --from, --tail and --since, and goes
// along with rotation. It needs no supervising process: a finished log says so by its mode.

type logOptions struct {
	follow, previous bool
	restart          int
	tail             int64
	from             int64
	since            string
}

func (l *logOptions) flags(flags *flag.FlagSet) {
	flags.BoolVar(&l.follow, "follow", false, "")
	flags.BoolVar(&l.previous, "previous", false, "")
	flags.IntVar(&l.restart, "restart", -1, "")
	flags.Int64Var(&l.tail, "tail", -1, "")
	flags.Int64Var(&l.from, "from", 0, "")
	flags.StringVar(&l.since, "since", "", "")
}

func logs(o *options) int {
	path, err := chooseRun(o)
	if err != nil {
		return complain(exitNoLog, "%s", err)
	}
	position := o.log.from
	if o.log.tail >= 0 {
		position = max(position, tailPosition(path, o.log.tail))
	}
	if o.log.since != "" {
		since, err := time.Parse(time.RFC3339Nano, o.log.since)
		if err != nil {
			return complain(exitUsage, "logs: --since %q is not a time as in RFC 3339", o.log.since)
		}
		position = max(position, sincePosition(path, since.UTC().Format(logTime)))
	}
	reader, err := openAt(path, position)
	if err != nil {
		return complain(exitNoLog, "%s", err)
	}
	if !o.log.follow {
		err = reader.copyAll()
	} else {
		err = reader.follow(o.root)
	}
	if err != nil {
		return complain(1, "%s", err)
	}
	return 0
}

// chooseRun finds the log of the run asked for: a number, the newest, or the one before.
func chooseRun(o *options) (string, error) {
	if !wellNamed(o.container) {
		return "", fmt.Errorf("logs: --container %q is not a name", o.container)
	}
	newest := -1
	items, _ := os.ReadDir(filepath.Join(o.root, "logs", o.container))
	for _, item := range items {
		if number, ok := strings.CutSuffix(item.Name(), ".log"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				newest = max(newest, n)
			}
		}
	}
	wanted := newest
	if o.log.previous {
		wanted--
	}
	if o.log.restart >= 0 {
		wanted = o.log.restart
	}
	path := logPath(o.root, o.container, wanted)
	if _, err := os.Stat(path); wanted < 0 || err != nil {
		if o.log.previous {
			return "", fmt.Errorf("previous terminated container %q not found", o.container)
		}
		return "", fmt.Errorf("container %q has no such log", o.container)
	}
	return path, nil
}

// logReader stands at a place in a run's log.
type logReader struct {
	path string
	file *os.File
	part
	at int64 // in the whole log
}

// parts of a log, oldest first, the present one among them.
func parts(path string) []part {
	for {
		found := olderParts(path)
		start := int64(0)
		if n := len(found); n > 0 {
			info, err := os.Stat(found[n-1].path)
			if err != nil {
				continue
			}
			start = found[n-1].start + info.Size()
		}
		return append(found, part{path, start})
	}
}

// openAt opens the file that holds a position; one that rotation has removed becomes the oldest that is there.
func openAt(path string, position int64) (*logReader, error) {
	for tries := 0; ; tries++ {
		r, err := tryOpenAt(path, position)
		if err == nil || tries == 20 {
			return r, err
		}
		pauseMs(1) // rotated under our hands
	}
}

func tryOpenAt(path string, position int64) (*logReader, error) {
	all := parts(path)
	chosen := all[0]
	for _, each := range all {
		if each.start <= position {
			chosen = each
		}
	}
	file, err := os.Open(chosen.path)
	if err != nil {
		return nil, err
	}
	r := &logReader{path: path, file: file, part: chosen, at: max(position, chosen.start)}
	if chosen.path == path && r.rotated() {
		file.Close()
		return nil, os.ErrNotExist
	}
	_, err = file.Seek(r.at-chosen.start, io.SeekStart)
	return r, err
}

// rotated tells whether the file that we read as the present one has been given its number meanwhile.
func (r *logReader) rotated() bool {
	_, err := os.Stat(r.path + "." + strconv.FormatInt(r.start, 10))
	return err == nil
}

// drain prints up to the present end of the file.
func (r *logReader) drain() error {
	n, err := io.Copy(os.Stdout, r.file)
	r.at += n
	return err
}

// step prints all that there is and tells whether the log is finished.
func (r *logReader) step() (finished bool, err error) {
	for {
		info, err := r.file.Stat()
		if err != nil {
			return false, err
		}
		last := r.part.path == r.path && !r.rotated()
		finished := last && info.Mode().Perm() == finishedLog
		if err := r.drain(); err != nil {
			return false, err
		}
		if last {
			return finished, nil
		}
		next, err := openAt(r.path, r.at)
		if err != nil {
			return false, err
		}
		r.file.Close()
		*r = *next
	}
}

func (r *logReader) copyAll() error {
	_, err := r.step()
	return err
}

// follow wakes up with every write; it ends with the run, with the runner, or when nobody reads us.
func (r *logReader) follow(root string) error {
	watch, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(watch), "inotify")
	const interesting = syscall.IN_MODIFY | syscall.IN_CREATE | syscall.IN_ATTRIB | syscall.IN_MOVED_TO
	if _, err := syscall.InotifyAddWatch(watch, filepath.Dir(r.path), interesting); err != nil {
		return err
	}
	go func() {
		waitForHangUp(os.Stdout)
		os.Exit(0)
	}()
	buffer := make([]byte, 4096)
	for {
		finished, err := r.step()
		if err != nil || finished {
			return err
		}
		_ = events.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := events.Read(buffer); err != nil && supervisorGone(root) {
			return r.copyAll()
		}
	}
}

func supervisorGone(root string) bool {
	lock, err := takeLock(root)
	if err == nil {
		lock.Close()
	}
	return err == nil
}

// tailPosition is where the last n lines begin.
func tailPosition(path string, n int64) int64 {
	all := parts(path)
	for i := len(all) - 1; i >= 0; i-- {
		file, err := os.Open(all[i].path)
		if err != nil {
			continue
		}
		place, left := tailOfFile(file, n)
		file.Close()
		if left == 0 {
			return all[i].start + place
		}
		n = left
	}
	return 0
}

// tailOfFile looks backwards for the beginning of the last n lines; left says how many the file lacks.
func tailOfFile(file *os.File, n int64) (place, left int64) {
	end, _ := file.Seek(0, io.SeekEnd)
	if n == 0 {
		return end, 0
	}
	block := make([]byte, 64<<10)
	for at := end; at > 0; {
		from := max(0, at-int64(len(block)))
		_, _ = file.ReadAt(block[:at-from], from)
		for k := at - from - 1; k >= 0; k-- {
			if block[k] != '\n' || from+k == end-1 {
				continue
			}
			if n--; n == 0 {
				return from + k + 1, 0
			}
		}
		at = from
	}
	if end > 0 {
		n-- // the file's first line has no newline before it
	}
	return 0, n
}

// sincePosition is where the first line that is not older begins. Lines are in the order of their times.
func sincePosition(path, since string) int64 {
	all := parts(path)
	for i := len(all) - 1; i > 0; i-- {
		file, err := os.Open(all[i].path)
		if err != nil {
			continue
		}
		first := make([]byte, len(since))
		n, _ := io.ReadFull(file, first)
		file.Close()
		if n == len(since) && string(first) < since {
			return all[i].start + sinceInFile(all[i].path, since)
		}
	}
	return all[0].start + sinceInFile(all[0].path, since)
}

func sinceInFile(path, since string) int64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	from, at := bufio.NewReaderSize(file, 64<<10), int64(0)
	for {
		text, err := from.ReadSlice('\n')
		if len(text) >= len(since) && bytes.Compare(text[:len(since)], []byte(since)) >= 0 || err != nil {
			if err != nil {
				at += int64(len(text))
			}
			return at
		}
		at += int64(len(text))
	}
}
