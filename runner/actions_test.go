package main

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
)

func TestRedirectsAreResolvedAgainstTheirRequest(t *testing.T) {
	for _, each := range [][4]string{
		{"/x", "http", "h:1", "/x"},
		{"y?z=1", "http", "h:1", "/a/y?z=1"},
		{"http://other/p", "http", "other:80", "/p"},
		{"https://other", "https", "other:443", "/"},
		{"https://h:8443/p?q", "https", "h:8443", "/p?q"},
		{"//other:9?q", "http", "other:9", "/?q"},
		{"http://[::1]/p", "http", "[::1]:80", "/p"},
	} {
		scheme, address, path := resolve("http", "h:1", "/a/b?c=/d", each[0])
		if [3]string{scheme, address, path} != [3]string{each[1], each[2], each[3]} {
			t.Errorf("%s: %s %s %s", each[0], scheme, address, path)
		}
	}
}

func FuzzAnswersNeverPanic(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nLocation: x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100\r\n\r\nHTTP/1.0 404 no\n\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		code, _, err := readAnswer(bufio.NewReader(bytes.NewReader(content)))
		if err == nil && (code < 101 || code > 999) {
			t.Errorf("status %d", code)
		}
	})
}

func FuzzHealthNeverPanics(f *testing.F) {
	f.Add([]byte{0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 3, 0, 8, 0, 0, 0, 1, 200, 0, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(content)
			theirs.Close()
		}()
		_, _ = readHealth(ours)
		ours.Close()
	})
}

func TestLengthsOfHeaders(t *testing.T) {
	for n, want := range map[int]string{0: "\x00", 126: "\x7e", 127: "\x7f\x00", 1337: "\x7f\xba\x09"} {
		if got := hpackLength(nil, n); string(got) != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}

func TestSignals(t *testing.T) {
	for name, want := range map[string]int{"SIGTERM": 15, "term": 15, "9": 9, "SIGRTMIN+3": 37, "SIGRTMAX-1": 63, "RTMIN": 34} {
		if got, err := signalNumber(name); err != nil || int(got) != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "0", "65", "-1", "SIG", "SIGRTMIN+99", "RTMIN-1"} {
		if got, err := signalNumber(name); err == nil {
			t.Errorf("%q: %d", name, got)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "a.b-c_d": true, "": false, ".": false, "..": false, "a/b": false,
		strings.Repeat("x", 254): false} {
		if wellNamed(name) != want {
			t.Errorf("%q", name)
		}
	}
}

func TestHostsEntriesAreReplacedAndNotRepeated(t *testing.T) {
	once := withEntries("1.2.3.4 cloud\n", "10.0.0.1\ta\n")
	twice := withEntries(once, "10.0.0.2\tb\n")
	if strings.Contains(twice, "10.0.0.1") || strings.Count(twice, "cloud") != 1 || !strings.Contains(twice, "10.0.0.2\tb") {
		t.Errorf("%q", twice)
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	launch, err := decodeLaunch([]byte(`{"pod_uid":"u","attempt":"a","volumes":[{"name":"v"}],"containers":[
		{"name":"c","argv":["x"],"liveness":{"action":{"kind":"tcp","port":1}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := launch.Containers[0]
	if c.Restart != "Always" || c.StopSignal != "SIGTERM" || c.TerminationMessagePath != "/dev/termination-log" ||
		c.Liveness.PeriodS != 10 || c.Liveness.TimeoutS != 1 || c.Liveness.FailureThreshold != 3 ||
		*launch.GraceS != 30 || *launch.Volumes[0].Mode != 0o755 {
		t.Errorf("%+v", launch)
	}
}
