package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// An HTTP/1.1 GET, small: net/http would take a third of the program. Redirects are followed on the same host, as a
// kubelet does; one to another host counts as success, with a warning.

const maxRedirects = 10

type badStatus int

func (code badStatus) Error() string {
	return fmt.Sprintf("HTTP probe failed with statuscode: %d", int(code))
}

func httpGet(within context.Context, a *Action, address string) (warning string, err error) {
	scheme, path := strings.ToLower(a.Scheme), a.Path
	if scheme == "" {
		scheme = "http"
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	for range maxRedirects {
		code, location, err := getOnce(within, a, scheme, address, path)
		if err != nil {
			return "", err
		}
		if code < 300 || code >= 400 || location == "" {
			if code >= 200 && code < 400 {
				return "", nil
			}
			return "", badStatus(code)
		}
		next, nextAddress, nextPath := resolve(scheme, address, path, location)
		if hostOf(nextAddress) != hostOf(address) {
			return "Probe terminated redirects, Response body: redirected to " + clip(location, 200), nil
		}
		scheme, address, path = next, nextAddress, nextPath
	}
	return "", fmt.Errorf("stopped after %d redirects", maxRedirects)
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// resolve a Location against the request that it answers.
func resolve(scheme, address, path, location string) (string, string, string) {
	rest, absolute := location, false
	for _, each := range []string{"http", "https"} {
		if after, found := strings.CutPrefix(location, each+"://"); found {
			scheme, rest, absolute = each, after, true
		}
	}
	if after, found := strings.CutPrefix(location, "//"); found {
		rest, absolute = after, true
	}
	if !absolute {
		if strings.HasPrefix(rest, "/") {
			return scheme, address, rest
		}
		bare, _, _ := strings.Cut(path, "?")
		return scheme, address, bare[:strings.LastIndex(bare, "/")+1] + rest
	}
	host, target := rest, "/"
	if at := strings.IndexAny(rest, "/?"); at >= 0 {
		host, target = rest[:at], rest[at:]
		if target[0] == '?' {
			target = "/" + target
		}
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		port := "80"
		if scheme == "https" {
			port = "443"
		}
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return scheme, host, target
}

func getOnce(within context.Context, a *Action, scheme, address, path string) (int, string, error) {
	conn, err := (&net.Dialer{}).DialContext(within, "tcp", address)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(within, func() { conn.Close() })
	defer stop()
	name := address
	for _, header := range a.Headers {
		if strings.EqualFold(header.Name, "Host") {
			name = header.Value
		}
	}
	if scheme == "https" {
		server := hostOf(address)
		if name != address {
			server, _, _ = strings.Cut(name, ":")
		}
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: server})
	}
	if _, err := conn.Write(request(a, name, path)); err != nil {
		return 0, "", err
	}
	return readAnswer(bufio.NewReader(conn))
}

func request(a *Action, host, path string) []byte {
	path, _, _ = strings.Cut(path, "#")
	var text strings.Builder
	fmt.Fprintf(&text, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", strings.ReplaceAll(path, " ", "%20"), host)
	given := map[string]bool{}
	for _, header := range a.Headers {
		if lower := strings.ToLower(header.Name); lower != "host" {
			given[lower] = true
			if header.Value != "" || (lower != "user-agent" && lower != "accept") {
				fmt.Fprintf(&text, "%s: %s\r\n", header.Name, header.Value)
			}
		}
	}
	if !given["user-agent"] {
		text.WriteString("User-Agent: kube-probe/1.36\r\n")
	}
	if !given["accept"] {
		text.WriteString("Accept: */*\r\n")
	}
	text.WriteString("\r\n")
	return []byte(text.String())
}

// readAnswer takes status and Location; what a server says besides (1xx, the body) is of no interest.
func readAnswer(from *bufio.Reader) (code int, location string, err error) {
	for {
		status, err := readLine(from)
		if err != nil {
			return 0, "", err
		}
		fields := strings.SplitN(status, " ", 3)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
			return 0, "", fmt.Errorf("malformed HTTP response %q", clip(status, 80))
		}
		if code, err = strconv.Atoi(fields[1]); err != nil || code < 100 || code > 999 {
			return 0, "", fmt.Errorf("malformed HTTP status code %q", clip(fields[1], 20))
		}
		for {
			header, err := readLine(from)
			if err != nil {
				return 0, "", err
			}
			if header == "" {
				break
			}
			name, value, _ := strings.Cut(header, ":")
			if strings.EqualFold(name, "Location") {
				location = strings.TrimSpace(value)
			}
		}
		if code >= 200 || code == 101 {
			return code, location, nil
		}
	}
}

func readLine(from *bufio.Reader) (string, error) {
	var text []byte
	for {
		part, err := from.ReadSlice('\n')
		text = append(text, part...)
		if len(text) > 1<<16 {
			return "", fmt.Errorf("HTTP response with a line of more than 64 KiB")
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
}
