package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// An entry is all that a new process of a container needs. The runner starts itself as `runner enter`, which reads the
// entry from descriptor 3, becomes what it says and executes the program; a failure goes to descriptor 4 as a refusal.

type bind struct {
	Source   string
	Target   string
	ReadOnly bool
}

type entry struct {
	Argv         []string
	Env          [][2]string
	Dir          string
	User         string
	Groups       []int
	Binds        []bind
	ReadOnlyRoot bool
	NoNewPrivs   bool
	Drop         uint64
	Mark         int
	// Join is a process whose file view is to be shared; 0: none.
	Join int
	// Bound is for processes that must not outlive the runner.
	Bound bool
	// OwnStreams says that the standard streams were made for this process, and may be given to its user.
	OwnStreams bool
	Hostname   string
}

type refusal struct {
	Code    int
	Reason  string
	Message string
}

func (r *refusal) Error() string { return r.Message }

func refuse(err error, format string, arguments ...any) *refusal {
	return &refusal{128, "StartError", fmt.Sprintf(format, arguments...) + ": " + reasonOf(err)}
}

// reasonOf leaves out what os wraps around an errno: the caller names call and path in better words.
func reasonOf(err error) string { return bare(err).Error() }

func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func enter() int {
	// Namespaces and credentials below are this thread's; the program inherits the thread that executes it.
	runtime.LockOSThread()
	source, answer := os.NewFile(3, "entry"), os.NewFile(4, "answer")
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	var e entry
	content, err := io.ReadAll(source)
	if err == nil {
		err = json.Unmarshal(content, &e)
	}
	problem := &refusal{128, "StartError", ""}
	if err != nil {
		problem.Message = err.Error()
	} else {
		problem = e.execute()
	}
	told, _ := json.Marshal(problem)
	_, _ = answer.Write(told)
	return problem.Code
}

// execute returns only when it failed.
func (e *entry) execute() *refusal {
	if e.Mark != 0 {
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(e.Mark)), 0)
	}
	syscall.Umask(0o022)
	if problem := e.arrangeFiles(); problem != nil {
		return problem
	}
	who, err := findIdentity(e.User, e.Groups)
	if err != nil {
		return &refusal{128, "StartError", err.Error()}
	}
	environment := e.environment(who)
	if e.OwnStreams {
		for fd := 0; fd <= 2; fd++ {
			// So that a program of another user may open /dev/stdout; /dev/null is not ours to give away.
			var stat syscall.Stat_t
			if syscall.Fstat(fd, &stat) == nil && (stat.Mode&syscall.S_IFMT == syscall.S_IFIFO || stat.Rdev>>8 == 136) {
				_ = syscall.Fchown(fd, who.uid, -1)
			}
		}
	}
	if problem := e.goTo(who); problem != nil {
		return problem
	}
	if problem := e.become(who); problem != nil {
		return problem
	}
	path, problem := findProgram(e.Argv[0], environment)
	if problem != nil {
		return problem
	}
	return cannotExecute(e.Argv[0], path, syscall.Exec(path, e.Argv, environment))
}

func (e *entry) environment(who identity) []string {
	seen := map[string]int{}
	var list []string
	set := func(name, value string) {
		if at, found := seen[name]; found {
			list[at] = name + "=" + value
			return
		}
		seen[name] = len(list)
		list = append(list, name+"="+value)
	}
	for _, pair := range e.Env {
		set(pair[0], pair[1])
	}
	if _, found := seen["PATH"]; !found {
		set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if _, found := seen["HOSTNAME"]; !found && e.Hostname != "" {
		set("HOSTNAME", e.Hostname)
	}
	if _, found := seen["HOME"]; !found {
		set("HOME", who.home)
	}
	return list
}

// goTo makes the working directory where it lacks, as container runtimes do.
func (e *entry) goTo(who identity) *refusal {
	dir := e.Dir
	if dir == "" {
		dir = "/"
	}
	if _, err := os.Stat(dir); err != nil && os.MkdirAll(dir, 0o755) == nil {
		_ = os.Chown(dir, who.uid, who.gid)
	}
	if err := syscall.Chdir(dir); err != nil {
		return refuse(err, "working directory %q", dir)
	}
	return nil
}

func (e *entry) arrangeFiles() *refusal {
	if e.Join != 0 {
		return joinView(e.Join)
	}
	for _, b := range e.Binds {
		if err := bindMount(b); err != nil {
			return refuse(err, "mounting %q", b.Target)
		}
	}
	if e.ReadOnlyRoot {
		if err := remountReadOnly("/"); err != nil {
			return refuse(err, "making / read-only")
		}
	}
	return nil
}

// joinView enters the mount namespace of a process, unless it is ours already.
func joinView(pid int) *refusal {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/mnt"
	theirs, err := os.Readlink(path)
	if err != nil {
		return refuse(err, "the file view of process %d", pid)
	}
	if ours, _ := os.Readlink("/proc/thread-self/ns/mnt"); ours == theirs {
		return nil
	}
	names, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/uts")
	if err == nil {
		_, _, _ = syscall.RawSyscall(sysSetns, names.Fd(), syscall.CLONE_NEWUTS, 0)
		names.Close()
	}
	view, err := os.Open(path)
	if err == nil {
		defer view.Close()
		if err = syscall.Unshare(syscall.CLONE_FS); err == nil {
			if _, _, errno := syscall.RawSyscall(sysSetns, view.Fd(), syscall.CLONE_NEWNS, 0); errno != 0 {
				err = errno
			}
		}
	}
	if err != nil {
		return refuse(err, "entering the file view of process %d", pid)
	}
	return nil
}

// become changes credentials, in the order in which each step is still allowed.
func (e *entry) become(who identity) *refusal {
	mayDrop := true
	for n := uintptr(0); n < 64; n++ {
		if e.Drop&(1<<n) != 0 && prctl(prCapbsetDrop, n) == syscall.EPERM { // EINVAL: this kernel has no such one
			mayDrop = false
		}
	}
	if os.Getuid() == 0 {
		if err := setIdentity(who); err != nil {
			return refuse(err, "becoming user %d, group %d", who.uid, who.gid)
		}
	} else if who.uid != os.Getuid() {
		return &refusal{128, "StartError", fmt.Sprintf(
			"can't become user %d: the machine runs us as user %d, and only root may change", who.uid, os.Getuid())}
	}
	if e.Drop != 0 && who.uid == 0 {
		if err := dropCapabilities(e.Drop); err != nil {
			return refuse(err, "dropping capabilities")
		}
	}
	// Who may not empty the bounding set can still keep programs from gaining what was to be dropped.
	if e.NoNewPrivs || e.Drop != 0 && who.uid != 0 && !mayDrop {
		if err := prctl(prSetNoNewPrivs, 1); err != nil {
			return refuse(err, "no_new_privs")
		}
	}
	if e.Bound {
		_ = prctl(prSetPdeathsig, uintptr(syscall.SIGKILL)) // a change of credentials cleared it
	}
	return nil
}

// setIdentity changes this thread alone, which is the one that executes the program.
func setIdentity(who identity) error {
	groups := make([]uint32, len(who.groups)+1)
	for i, gid := range who.groups {
		groups[i] = uint32(gid)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(who.groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 && (len(who.groups) > 0 || who.uid != 0) && !groupsForbidden() {
		return errno
	}
	gid, uid := uintptr(who.gid), uintptr(who.uid)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return errno
	}
	return nil
}

// groupsForbidden tells a user namespace in which nobody may change groups.
func groupsForbidden() bool {
	content, _ := os.ReadFile("/proc/self/setgroups")
	return strings.TrimSpace(string(content)) == "deny"
}

func dropCapabilities(drop uint64) error {
	header := struct {
		version uint32
		pid     int32
	}{0x20080522, 0}
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	pair := [2]uintptr{uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0]))}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPGET, pair[0], pair[1], 0); errno != 0 {
		return errno
	}
	for i := range sets {
		keep := ^uint32(drop >> (32 * i))
		sets[i].effective &= keep
		sets[i].permitted &= keep
		sets[i].inheritable &= keep
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, pair[0], pair[1], 0); errno != 0 {
		return errno
	}
	return nil
}

func findProgram(name string, environment []string) (string, *refusal) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, variable := range environment {
		if value, found := strings.CutPrefix(variable, "PATH="); found {
			path = value
		}
	}
	denied := false
	for _, folder := range strings.Split(path, ":") {
		if folder == "" {
			folder = "."
		}
		candidate := folder + "/" + name
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		const executable = 1
		if syscall.Faccessat(-100, candidate, executable, 0) == nil {
			return candidate, nil
		}
		denied = true
	}
	if denied {
		return "", &refusal{126, "ContainerCannotRun", fmt.Sprintf("exec: %q: permission denied", name)}
	}
	return "", &refusal{127, "ContainerCannotRun", fmt.Sprintf("exec: %q: executable file not found in $PATH", name)}
}

func cannotExecute(name, path string, err error) *refusal {
	code := 126
	if errors.Is(err, syscall.ENOENT) {
		if _, missing := os.Stat(path); missing != nil {
			code = 127
		}
	} else if errors.Is(err, syscall.ENOTDIR) {
		code = 127
	} else if errors.Is(err, syscall.E2BIG) {
		return &refusal{128, "StartError", fmt.Sprintf("exec: %q: arguments and environment are too long", name)}
	}
	return &refusal{code, "ContainerCannotRun", fmt.Sprintf("exec: %q: %s", name, reasonOf(err))}
}
