package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The machine's names: host name and /etc/hosts as the pod wants them, in a view of the pod's own where that is
// allowed; else /etc/hosts itself is extended, and the host name stays (programs still find HOSTNAME).

const hostsHead, hostsEnd = "# Begin of the pod's entries.\n", "# End of the pod's entries.\n"

func (p *pod) nameMachine() {
	if p.ownView {
		_ = syscall.Sethostname([]byte(p.launch.Hostname))
	}
	before, _ := os.ReadFile("/etc/hosts")
	content := []byte(withEntries(string(before), p.hostsEntries()))
	var err error
	if p.mayMount {
		file := filepath.Join(p.root, "etc", "hosts")
		if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
			if err = os.WriteFile(file, content, 0o644); err == nil {
				err = bindMount(bind{Source: file, Target: "/etc/hosts"})
			}
		}
	} else {
		err = os.WriteFile("/etc/hosts", content, 0o644) // in place: it may be a mount of the cloud's
	}
	if err != nil && len(p.launch.HostAliases) > 0 {
		p.record("", "HostAliasesIgnored", true, "hostAliases can't be written to /etc/hosts: %s", reasonOf(err))
	}
}

func (p *pod) hostsEntries() string {
	var text strings.Builder
	text.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	names := p.launch.Hostname
	if p.launch.Subdomain != "" {
		names = p.launch.Hostname + "." + p.launch.Subdomain + "." + p.launch.Namespace + ".svc.cluster.local\t" + names
	}
	if p.launch.Hostname != "" {
		text.WriteString(ownAddress() + "\t" + names + "\n")
	}
	for _, alias := range p.launch.HostAliases {
		text.WriteString(alias.Address + "\t" + strings.Join(alias.Names, "\t") + "\n")
	}
	return text.String()
}

func withEntries(before, entries string) string {
	if head, rest, found := strings.Cut(before, hostsHead); found {
		_, after, _ := strings.Cut(rest, hostsEnd)
		before = head + after
	}
	return hostsHead + entries + hostsEnd + before
}

func ownAddress() string {
	addresses, _ := net.InterfaceAddrs()
	for _, each := range addresses {
		if network, ok := each.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && network.IP.To4() != nil {
			return network.IP.String()
		}
	}
	return "127.0.0.1"
}
