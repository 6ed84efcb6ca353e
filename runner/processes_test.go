package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBothWaysFindAllDescendants(t *testing.T) {
	command := exec.Command("sh", "-c", "sleep 60 & setsid sleep 60 & wait")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(int) []process{"asking": descendants, "searching": descendantsByParent}
	for name, way := range ways {
		deadline := time.Now().Add(10 * time.Second)
		for {
			found := way(os.Getpid())
			at := slices.IndexFunc(found, func(p process) bool { return p.pid == command.Process.Pid })
			if at >= 0 && len(found)-at >= 3 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", name, found)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, p := range descendants(command.Process.Pid) {
		if child, err := os.FindProcess(p.pid); err == nil {
			_ = child.Kill()
		}
	}
	_ = command.Process.Kill()
	_ = command.Wait()
}

func TestAProcessIsReadWhateverItsName(t *testing.T) {
	me, alive := readProcess(os.Getpid())
	if !alive || me.parent != os.Getppid() || me.rssPages == 0 || me.startTicks == 0 {
		t.Errorf("%+v", me)
	}
	if _, alive := readProcess(1 << 30); alive {
		t.Error("a process that can't be")
	}
}

func TestBootIDNamesKernelAndFirstProcess(t *testing.T) {
	if id := bootID(); strings.Count(id, "/") != 1 || len(id) < 38 || id != bootID() {
		t.Error(id)
	}
}

func TestKillCounts(t *testing.T) {
	for name, content := range map[string]string{
		"v1": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"v2": "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 0\n",
	} {
		path := t.TempDir() + "/events"
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if count, ok := killCount(path); !ok || count != 3 {
			t.Errorf("%s: %d, %v", name, count, ok)
		}
	}
	if _, ok := killCount("/proc/self/status"); ok {
		t.Error("a file without the count")
	}
}

func TestJudgementsOfAnEnd(t *testing.T) {
	limit := int64(1 << 20)
	killed, failed, done := exit{status: 9}, exit{status: 137 << 8}, exit{}
	big := exit{status: 9}
	big.usage.Maxrss = 1 << 10
	file := t.TempDir() + "/events"
	_ = os.WriteFile(file, []byte("oom_kill 5\n"), 0o600)
	for _, each := range []struct {
		watch    oomWatch
		end      exit
		byUs     bool
		reason   string
		inferred bool
	}{
		{oomWatch{file, true, 4}, killed, false, "OOMKilled", false},
		{oomWatch{file, true, 4}, failed, false, "OOMKilled", false},
		{oomWatch{file, true, 5}, killed, false, "Error", false},
		{oomWatch{file, true, 4}, killed, true, "Error", false},
		{oomWatch{file, true, 4}, done, false, "Completed", false},
		{oomWatch{file, false, 4}, killed, false, "OOMKilled", true},
		{oomWatch{file, false, 4}, failed, false, "Error", false},
		{oomWatch{file, false, 5}, big, false, "OOMKilled", true},
		{oomWatch{file, false, 5}, killed, false, "Error", false},
	} {
		reason, message := each.watch.judge(each.end, each.byUs, &limit)
		if reason != each.reason || strings.HasPrefix(message, "inferred") != each.inferred {
			t.Errorf("%+v: %s, %q", each, reason, message)
		}
	}
}
