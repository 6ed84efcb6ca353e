package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Was it the lack of memory? Asked first of the cgroup's own count of kills (v2, then v1), where it can be read; else
// inferred, and said to be inferred: from the kernel's count for the whole host, and from the peak size.

type oomWatch struct {
	path    string
	certain bool
	before  int64
}

func watchMemory() oomWatch {
	for _, path := range cgroupFiles() {
		if count, ok := killCount(path); ok {
			return oomWatch{path, true, count}
		}
	}
	count, _ := killCount("/proc/vmstat")
	return oomWatch{"/proc/vmstat", false, count}
}

func cgroupFiles() []string {
	content, _ := os.ReadFile("/proc/self/cgroup")
	var paths []string
	for _, text := range strings.Split(string(content), "\n") {
		fields := strings.SplitN(text, ":", 3)
		if len(fields) != 3 {
			continue
		}
		if fields[0] == "0" {
			paths = append(paths, "/sys/fs/cgroup"+fields[2]+"/memory.events", "/sys/fs/cgroup/memory.events")
		} else if fields[1] == "memory" {
			base := "/sys/fs/cgroup/memory"
			paths = append(paths, base+fields[2]+"/memory.oom_control", base+"/memory.oom_control")
		}
	}
	return paths
}

func killCount(path string) (int64, bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for _, text := range strings.Split(string(content), "\n") {
		if value, found := strings.CutPrefix(text, "oom_kill "); found {
			count, err := strconv.ParseInt(value, 10, 64)
			return count, err == nil
		}
	}
	return 0, false
}

// judge gives reason and message of an end.
func (o oomWatch) judge(e exit, killedByUs bool, limit *int64) (reason, message string) {
	code := e.code()
	if code == 0 {
		return "Completed", ""
	}
	if code != 128+int(syscall.SIGKILL) || killedByUs {
		return "Error", ""
	}
	count, _ := killCount(o.path)
	rose := count > o.before
	peak := e.usage.Maxrss * 1024
	switch {
	case rose && o.certain:
		return "OOMKilled", ""
	case rose && e.status.Signaled():
		return "OOMKilled", "inferred: killed by SIGKILL while the host's kernel counted a kill for lack of memory"
	case !o.certain && limit != nil && e.status.Signaled() && peak >= *limit/10*9:
		return "OOMKilled", fmt.Sprintf("inferred: killed by SIGKILL at a peak of %d bytes of a limit of %d", peak, *limit)
	case e.status.Signaled() && !o.certain:
		return "Error", "killed by SIGKILL from outside; whether memory ran out can't be read on this machine"
	}
	return "Error", ""
}
