package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the containers use, from /proc: their living processes, those that these have waited for, and the orphans that
// the reaper waited for. Measured when asked, so that an idle pod costs nothing.

const ticksPerSecond = 100 // USER_HZ on every platform that we build for

func (p *pod) usage() *UsageReport {
	report := &UsageReport{At: unix(time.Now()), GPUs: p.reaper.readGPUs()}
	for _, u := range p.units {
		p.mu.Lock()
		r := u.run
		p.mu.Unlock()
		if r != nil {
			report.Containers = append(report.Containers, u.measure(r))
		}
	}
	return report
}

func (u *unit) measure(r *run) Usage {
	used := Usage{Name: u.spec.Name, At: unix(time.Now())}
	var ticks int64
	for _, process := range membersOf(r.pid, u.mark) {
		ticks += process.ticks
		total, anonymous := memoryOf(process.pid)
		used.MemoryBytes += total
		used.WorkingSetBytes += anonymous
	}
	cpu := time.Duration(ticks)*(time.Second/ticksPerSecond) + u.pod.reaper.orphansUsed(u.mark) - r.cpuBefore
	u.pod.mu.Lock()
	defer u.pod.mu.Unlock()
	r.cpuSeen = max(r.cpuSeen, cpu) // a process that ends between two looks must not turn the clock back
	used.CPUNs = r.cpuSeen.Nanoseconds()
	return used
}

// memoryOf tells resident bytes, and those of them that are the process's own (not of mapped files).
func memoryOf(pid int) (total, own int64) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(content))
	if len(fields) < 3 {
		return 0, 0
	}
	resident, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64)
	page := int64(os.Getpagesize())
	return resident * page, (resident - shared) * page
}

// holdMemory ends a container that uses more than its limit, since no cgroup of ours does.
func (u *unit) holdMemory(within context.Context, r *run) {
	for sleep(within, time.Second) {
		var sum int64
		for _, process := range membersOf(r.pid, u.mark) {
			_, own := memoryOf(process.pid)
			sum += own
		}
		if sum > *u.spec.MemoryLimitBytes {
			u.pod.mu.Lock()
			r.overLimit = fmt.Sprintf("%d bytes of a limit of %d were in use", sum, *u.spec.MemoryLimitBytes)
			u.pod.mu.Unlock()
			_ = syscall.Kill(r.pid, syscall.SIGKILL)
			return
		}
	}
}

const gpuFields = "index,name,uuid,memory.total,memory.used,utilization.gpu"

// readGPUs asks nvidia-smi, if the machine has it; whatever goes wrong there means no figures.
func (r *reaper) readGPUs() []GPU {
	program, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	output, err := r.output(within, program, "--query-gpu="+gpuFields, "--format=csv,noheader,nounits")
	if err != nil {
		return nil
	}
	rows := csv.NewReader(bytes.NewReader(output))
	rows.TrimLeadingSpace = true
	rows.FieldsPerRecord = -1
	records, _ := rows.ReadAll()
	var found []GPU
	for _, record := range records {
		if len(record) < 6 {
			continue
		}
		number := func(i int) int64 {
			n, _ := strconv.ParseFloat(strings.TrimSpace(record[i]), 64)
			return int64(n)
		}
		found = append(found, GPU{
			Index: int(number(0)), Model: record[1], ID: record[2], MemoryTotalBytes: number(3) << 20,
			MemoryUsedBytes: number(4) << 20, BusyPercent: int(number(5)),
		})
	}
	return found
}
