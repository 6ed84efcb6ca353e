package main

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// Signals and capabilities by the names that images and pods use.

var signals = map[string]syscall.Signal{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28,
	"IO": 29, "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}

// signalNumber knows SIGTERM, TERM, 15, SIGRTMIN+3 and SIGRTMAX-1.
func signalNumber(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	bare := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if number, known := signals[bare]; known {
		return number, nil
	}
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if rest, found := strings.CutPrefix(bare, base); found {
			if n, err := strconv.Atoi(rest); err == nil && n >= 0 && n <= 30 {
				if base == "RTMAX-" {
					n = -n
				}
				return signals[base[:5]] + syscall.Signal(n), nil
			}
		}
	}
	return 0, fmt.Errorf("there is no signal %q", name)
}

var capabilities = map[string]uintptr{
	"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
	"SETPCAP": 8, "LINUX_IMMUTABLE": 9, "NET_BIND_SERVICE": 10, "NET_BROADCAST": 11, "NET_ADMIN": 12, "NET_RAW": 13,
	"IPC_LOCK": 14, "IPC_OWNER": 15, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_CHROOT": 18, "SYS_PTRACE": 19,
	"SYS_PACCT": 20, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_NICE": 23, "SYS_RESOURCE": 24, "SYS_TIME": 25,
	"SYS_TTY_CONFIG": 26, "MKNOD": 27, "LEASE": 28, "AUDIT_WRITE": 29, "AUDIT_CONTROL": 30, "SETFCAP": 31,
	"MAC_OVERRIDE": 32, "MAC_ADMIN": 33, "SYSLOG": 34, "WAKE_ALARM": 35, "BLOCK_SUSPEND": 36, "AUDIT_READ": 37,
	"PERFMON": 38, "BPF": 39, "CHECKPOINT_RESTORE": 40,
}

// dropped is the bit set of the capabilities named.
func dropped(names []string) uint64 {
	var set uint64
	for _, name := range names {
		if name == "ALL" {
			return ^uint64(0)
		}
		set |= 1 << capabilities[name]
	}
	return set
}
