package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newLog(t *testing.T) *runLog {
	t.Helper()
	log, err := openLog(filepath.Join(t.TempDir(), "0.log"), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// joined puts a log's lines together again.
func joined(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, each := range strings.SplitAfter(string(content), "\n") {
		fields := strings.SplitN(each, " ", 4)
		if len(fields) < 4 {
			continue
		}
		if len(fields[3]) > maxText+1 {
			t.Errorf("a text of %d bytes", len(fields[3])-1)
		}
		if fields[2] == "P" {
			fields[3] = strings.TrimSuffix(fields[3], "\n")
		}
		text.WriteString(fields[3])
	}
	return text.String()
}

func TestOutputSurvivesAnySplit(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for round := range 200 {
		var text strings.Builder
		for range random.Intn(20) {
			text.WriteString(strings.Repeat("x", random.Intn(3)*random.Intn(20000)) + fmt.Sprint(round))
			if random.Intn(4) > 0 {
				text.WriteByte('\n')
			}
		}
		log := newLog(t)
		lines := &stream{log: log, name: "stdout"}
		for rest := text.String(); rest != ""; {
			n := 1 + random.Intn(len(rest))
			lines.write([]byte(rest[:n]))
			rest = rest[n:]
		}
		lines.end()
		log.close()
		if got := joined(t, log.path); got != text.String() {
			t.Fatalf("round %d: %d bytes became %d", round, text.Len(), len(got))
		}
	}
}

func TestPositionsOfTheLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\n"+strings.Repeat("x", 70000)+"\nlast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	end := int64(8 + 70001 + 5)
	for n, want := range map[int64][2]int64{0: {end, 0}, 1: {end - 5, 0}, 2: {8, 0}, 3: {4, 0}, 4: {0, 0}, 6: {0, 2}} {
		place, left := tailOfFile(file, n)
		if [2]int64{place, left} != want {
			t.Errorf("the last %d begin at %d, %d are left; want %v", n, place, left, want)
		}
	}
}

func TestTheEndOfALog(t *testing.T) {
	log := newLog(t)
	lines := &stream{log: log, name: "stderr"}
	for n := range 100 {
		lines.write([]byte(fmt.Sprintf("line %d\n", n)))
	}
	lines.write([]byte("no end"))
	lines.end()
	log.close()
	said := lastOutput(log.path)
	if !strings.HasPrefix(said, "line 20\n") && !strings.HasPrefix(said, "line 21\n") || !strings.HasSuffix(said, "line 99\nno end") {
		t.Errorf("%q", said)
	}
}
