package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identity is whom a process runs as, and where that user lives.
type identity struct {
	uid, gid int
	groups   []int
	home     string
}

// findIdentity reads `uid`, `uid:gid`, `name` or `name:group` as an image's USER; empty means whoever we are. The
// files are the machine's own /etc/passwd and /etc/group; a number need not be in them.
func findIdentity(user string, extra []int) (identity, error) {
	found := identity{uid: os.Getuid(), gid: os.Getgid(), home: os.Getenv("HOME")}
	name, group, hasGroup := strings.Cut(user, ":")
	wanted := strconv.Itoa(found.uid)
	if name != "" {
		wanted = name
	}
	entry := lookup("/etc/passwd", wanted, 2)
	uid, err := strconv.Atoi(wanted)
	switch {
	case entry != nil && len(entry) >= 6:
		found.uid, _ = strconv.Atoi(entry[2])
		found.gid, _ = strconv.Atoi(entry[3])
		found.home = entry[5]
		found.groups = groupsOf(entry[0])
	case err != nil:
		return found, fmt.Errorf("unable to find user %s: no matching entries in /etc/passwd", wanted)
	case name != "":
		found.uid, found.gid, found.home = uid, 0, "/"
	}
	if hasGroup && group != "" {
		if found.gid, err = findGroup(group); err != nil {
			return found, err
		}
	}
	if found.home == "" {
		found.home = "/"
	}
	found.groups = append(found.groups, extra...)
	return found, nil
}

func findGroup(group string) (int, error) {
	if entry := lookup("/etc/group", group, 2); entry != nil {
		return strconv.Atoi(entry[2])
	}
	gid, err := strconv.Atoi(group)
	if err != nil {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in /etc/group", group)
	}
	return gid, nil
}

// lookup finds the line whose name or, in the given column, number is the one wanted; a name wins.
func lookup(path, wanted string, column int) []string {
	var byNumber []string
	for _, fields := range colonFile(path) {
		if fields[0] == wanted {
			return fields
		}
		if byNumber == nil && fields[column] == wanted {
			byNumber = fields
		}
	}
	return byNumber
}

func groupsOf(user string) []int {
	var found []int
	for _, fields := range colonFile("/etc/group") {
		if len(fields) < 4 {
			continue
		}
		for _, member := range strings.Split(fields[3], ",") {
			if gid, err := strconv.Atoi(fields[2]); err == nil && member == user {
				found = append(found, gid)
			}
		}
	}
	return found
}

func colonFile(path string) [][]string {
	content, _ := os.ReadFile(path)
	var lines [][]string
	for _, text := range strings.Split(string(content), "\n") {
		if fields := strings.Split(text, ":"); len(fields) >= 3 {
			lines = append(lines, fields)
		}
	}
	return lines
}
