package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// What /proc tells of processes. Processes of a container are known by their ancestors, by their session, and by a
// mark: their oom_score_adj, which every descendant inherits, however it detached itself. It also makes the kernel
// choose the workload before the runner and the ssh server when memory runs out.

const firstMark, marks = 900, 100

func markOf(pid int) int {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	if err != nil {
		return 0
	}
	mark, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	return mark
}

type process struct {
	pid, parent, session int
	state                byte
	// ticks are user and system time, own and of the children that it has waited for.
	ticks int64
	// startTicks since the kernel's boot, rssPages as in /proc/PID/stat.
	startTicks, rssPages int64
}

func readProcess(pid int) (process, bool) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name in parentheses may hold anything; fields count from behind its end.
	end := bytes.LastIndexByte(content, ')')
	if end < 0 {
		return process{}, false
	}
	fields := strings.Fields(string(content[end+1:]))
	if len(fields) < 22 {
		return process{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	return process{
		pid: pid, state: fields[0][0], parent: int(number(1)), session: int(number(3)),
		ticks:      number(11) + number(12) + number(13) + number(14),
		startTicks: number(19), rssPages: number(21),
	}, true
}

func allProcesses() []process {
	folder, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	var found []process
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, alive := readProcess(pid); alive {
				found = append(found, p)
			}
		}
	}
	return found
}

// childrenOf asks the kernel; ok is false where it was built without that file.
func childrenOf(pid int) (pids []int, ok bool) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	folder, err := os.Open(tasks)
	if err != nil {
		return nil, true
	}
	threads, _ := folder.Readdirnames(-1)
	folder.Close()
	for _, thread := range threads {
		content, err := os.ReadFile(tasks + "/" + thread + "/children")
		if err != nil {
			if _, gone := os.Stat(tasks + "/" + thread); gone != nil {
				continue
			}
			return nil, false
		}
		for _, field := range strings.Fields(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids, true
}

// descendants of pid, without itself, parents before children.
func descendants(pid int) []process {
	var found []process
	queue := []int{pid}
	for len(queue) > 0 {
		children, ok := childrenOf(queue[0])
		if !ok {
			return descendantsByParent(pid)
		}
		queue = queue[1:]
		for _, child := range children {
			if p, alive := readProcess(child); alive {
				found = append(found, p)
				queue = append(queue, child)
			}
		}
	}
	return found
}

func descendantsByParent(pid int) []process {
	children := map[int][]process{}
	for _, p := range allProcesses() {
		children[p.parent] = append(children[p.parent], p)
	}
	var found []process
	queue := []int{pid}
	for len(queue) > 0 {
		found = append(found, children[queue[0]]...)
		for _, child := range children[queue[0]] {
			queue = append(queue, child.pid)
		}
		queue = queue[1:]
	}
	return found
}

// membersOf are the living processes of the container whose first process is (or was) main and bears mark.
func membersOf(main, mark int) []process {
	var found []process
	inside := map[int]bool{main: true}
	for _, p := range descendants(os.Getpid()) {
		if p.pid == main || inside[p.parent] || p.session == main || markOf(p.pid) == mark {
			inside[p.pid] = true
			if p.state != 'Z' {
				found = append(found, p)
			}
		}
	}
	return found
}

// killMembers ends all of them, those too that are forked meanwhile.
func killMembers(main, mark int) {
	for round := 0; round < 100; round++ {
		members := membersOf(main, mark)
		if len(members) == 0 {
			return
		}
		for _, p := range members {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if round > 0 {
			pauseMs(1)
		}
	}
}

// killEverything ends whatever is left below us.
func killEverything() {
	for range 100 {
		left := 0
		for _, p := range descendants(os.Getpid()) {
			if p.state != 'Z' {
				left++
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		if left == 0 {
			return
		}
		pauseMs(1)
	}
}

// bootID names the machine's present life: the kernel's, and the start of the first process, since a container that
// is started anew keeps its host's kernel.
func bootID() string {
	content, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	first, _ := readProcess(1)
	return strings.TrimSpace(string(content)) + "/" + strconv.FormatInt(first.startTicks, 10)
}
