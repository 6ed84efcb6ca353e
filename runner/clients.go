package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
)

// The sub-commands that talk to the supervising process.

// follow relays; when the supervising process is gone it tells what it left.
func follow(o *options) int {
	conn := reach(o.root, hello{Op: "follow"})
	if conn == nil {
		return tellLast(o.root, nil)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		// Our channel has closed, or whoever asked wants no more than the present state.
		_ = conn.CloseWrite()
	}()
	var newest *State
	from := bufio.NewReaderSize(conn, 64<<10)
	for {
		text, err := from.ReadBytes('\n')
		if err != nil {
			break
		}
		if _, err := os.Stdout.Write(text); err != nil {
			return 1
		}
		var told Line
		if json.Unmarshal(text, &told) == nil && told.State != nil {
			newest = told.State
		}
	}
	if newest != nil && newest.Ended {
		return 0
	}
	if lock, err := waitForLock(o.root); err == nil {
		lock.Close()
		return tellLast(o.root, newest)
	}
	return 0
}

// reach connects; nil when nobody supervises.
func reach(root string, what hello, files ...*os.File) *net.UnixConn {
	for range 100 {
		if conn, err := dial(root, what, files...); err == nil {
			return conn
		}
		if lock, err := takeLock(root); err == nil {
			lock.Close()
			return nil
		} else if os.IsNotExist(err) {
			return nil
		}
		pauseMs(50) // it is coming up, or going down
	}
	return nil
}

// waitForLock gives a supervising process that has just let go of us the time to end.
func waitForLock(root string) (lock *os.File, err error) {
	for range 40 {
		if lock, err = takeLock(root); err == nil {
			return lock, nil
		}
		pauseMs(5)
	}
	return nil, err
}

// tellLast prints the state of a pod that nobody supervises. What was heard may be newer than what was written.
func tellLast(root string, heard *State) int {
	state := readState(root)
	if state != nil && heard != nil && heard.Number > state.Number {
		state = heard
	}
	if state == nil {
		return complain(exitNothingHere, "nothing was started in %s", root)
	}
	if !state.Ended && state.BootID != bootID() {
		return complain(exitNothingHere, "the machine was started anew; start goes on with the pod")
	}
	if !state.Ended {
		if lock, err := takeLock(root); err == nil {
			if now := readState(root); now.Number > state.Number {
				state = now // somebody else was faster
			}
			if !state.Ended {
				state = declareDead(root, state)
			}
			lock.Close()
		}
	}
	_, _ = os.Stdout.Write(line(Line{State: state}))
	return 0
}

func stop(o *options) int {
	command := Command{ID: 1, Do: "stop"}
	if o.grace >= 0 {
		command.GraceS = &o.grace
	}
	return ask(o.root, command, func(told *Line) bool { return told.State != nil && told.State.Ended })
}

func usage(o *options) int {
	return ask(o.root, Command{ID: 1, Do: "usage"}, func(told *Line) bool { return told.Answer != nil })
}

// ask sends one command and prints the first line that is wanted.
func ask(root string, command Command, wanted func(*Line) bool) int {
	conn := reach(root, hello{Op: "follow"})
	if conn == nil {
		return tellLast(root, nil)
	}
	defer conn.Close()
	if _, err := conn.Write(line(command)); err != nil {
		return complain(exitNothingHere, "%s", err)
	}
	from := bufio.NewReader(conn)
	for {
		text, err := from.ReadBytes('\n')
		if err != nil {
			return tellLast(root, nil)
		}
		var told Line
		if json.Unmarshal(text, &told) == nil && wanted(&told) {
			_, _ = os.Stdout.Write(text)
			return 0
		}
	}
}
