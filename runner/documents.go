package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The documents, as docs/runner-protocol.md and access/documents.py describe them. Defaults that JSON leaves out are
// filled in by complete(), so that the rest of the program never asks.

const documentVersion = 1

type Mount struct {
	Volume   string `json:"volume"`
	Path     string `json:"path"`
	SubPath  string `json:"sub_path"`
	ReadOnly bool   `json:"read_only"`
}

type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type Action struct {
	Kind    string   `json:"kind"`
	Command []string `json:"command"`
	Host    string   `json:"host"`
	Port    int      `json:"port"`
	Path    string   `json:"path"`
	Scheme  string   `json:"scheme"`
	Headers []Header `json:"headers"`
	Service string   `json:"service"`
	Seconds int      `json:"seconds"`
}

type Probe struct {
	Action           Action `json:"action"`
	InitialDelayS    int    `json:"initial_delay_s"`
	PeriodS          int    `json:"period_s"`
	TimeoutS         int    `json:"timeout_s"`
	SuccessThreshold int    `json:"success_threshold"`
	FailureThreshold int    `json:"failure_threshold"`
	GraceS           *int   `json:"grace_s"`
}

type Container struct {
	Name                      string      `json:"name"`
	Argv                      []string    `json:"argv"`
	Env                       [][2]string `json:"env"`
	WorkingDir                string      `json:"working_dir"`
	User                      string      `json:"user"`
	Groups                    []int       `json:"groups"`
	Mounts                    []Mount     `json:"mounts"`
	Restart                   string      `json:"restart"`
	Stdin                     bool        `json:"stdin"`
	StdinOnce                 bool        `json:"stdin_once"`
	TTY                       bool        `json:"tty"`
	Startup                   *Probe      `json:"startup"`
	Readiness                 *Probe      `json:"readiness"`
	Liveness                  *Probe      `json:"liveness"`
	PostStart                 *Action     `json:"post_start"`
	PreStop                   *Action     `json:"pre_stop"`
	StopSignal                string      `json:"stop_signal"`
	TerminationMessagePath    string      `json:"termination_message_path"`
	TerminationMessageFromLog bool        `json:"termination_message_from_log"`
	MemoryLimitBytes          *int64      `json:"memory_limit_bytes"`
	CPULimitMillis            *int64      `json:"cpu_limit_millis"`
	NoNewPrivileges           bool        `json:"no_new_privileges"`
	DropCapabilities          []string    `json:"drop_capabilities"`
	ReadOnlyRoot              bool        `json:"read_only_root"`
}

type Volume struct {
	Name           string  `json:"name"`
	InMemory       bool    `json:"in_memory"`
	SizeLimitBytes *int64  `json:"size_limit_bytes"`
	Mode           *uint32 `json:"mode"`
	Group          *int    `json:"group"`
}

type HostAlias struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

type Launch struct {
	PodUID      string      `json:"pod_uid"`
	Attempt     string      `json:"attempt"`
	Namespace   string      `json:"namespace"`
	PodName     string      `json:"pod_name"`
	Hostname    string      `json:"hostname"`
	Init        []Container `json:"init"`
	Containers  []Container `json:"containers"`
	Volumes     []Volume    `json:"volumes"`
	HostAliases []HostAlias `json:"host_aliases"`
	Subdomain   string      `json:"subdomain"`
	GraceS      *int        `json:"grace_s"`
	Version     int         `json:"version"`
}

type Waiting struct {
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

type Running struct {
	StartedAt float64 `json:"started_at"`
	PID       int     `json:"pid"`
}

type Terminated struct {
	ExitCode   int     `json:"exit_code"`
	Reason     string  `json:"reason"`
	StartedAt  float64 `json:"started_at"`
	FinishedAt float64 `json:"finished_at"`
	Signal     int     `json:"signal,omitempty"`
	Message    string  `json:"message,omitempty"`
	ID         string  `json:"id,omitempty"`
}

type ContainerState struct {
	Name       string      `json:"name"`
	Restarts   int         `json:"restarts,omitempty"`
	Ready      bool        `json:"ready,omitempty"`
	Started    bool        `json:"started,omitempty"`
	Waiting    *Waiting    `json:"waiting,omitempty"`
	Running    *Running    `json:"running,omitempty"`
	Terminated *Terminated `json:"terminated,omitempty"`
	Last       *Terminated `json:"last,omitempty"`
	ID         string      `json:"id,omitempty"`
}

type Occurrence struct {
	Number    int     `json:"number"`
	At        float64 `json:"at"`
	Container string  `json:"container"`
	Reason    string  `json:"reason"`
	Message   string  `json:"message"`
	Warning   bool    `json:"warning,omitempty"`
}

type State struct {
	PodUID      string           `json:"pod_uid"`
	Attempt     string           `json:"attempt"`
	Number      int              `json:"number"`
	At          float64          `json:"at"`
	BootID      string           `json:"boot_id"`
	Init        []ContainerState `json:"init,omitempty"`
	Containers  []ContainerState `json:"containers,omitempty"`
	Occurrences []Occurrence     `json:"occurrences,omitempty"`
	Stopping    bool             `json:"stopping,omitempty"`
	Ended       bool             `json:"ended,omitempty"`
	Failure     string           `json:"failure,omitempty"`
	Version     int              `json:"version,omitempty"`
}

type Usage struct {
	Name            string  `json:"name"`
	At              float64 `json:"at"`
	CPUNs           int64   `json:"cpu_ns"`
	MemoryBytes     int64   `json:"memory_bytes"`
	WorkingSetBytes int64   `json:"working_set_bytes,omitempty"`
}

type GPU struct {
	Index            int    `json:"index"`
	Model            string `json:"model"`
	ID               string `json:"id"`
	MemoryTotalBytes int64  `json:"memory_total_bytes"`
	MemoryUsedBytes  int64  `json:"memory_used_bytes"`
	BusyPercent      int    `json:"busy_percent,omitempty"`
}

type UsageReport struct {
	At         float64 `json:"at"`
	Containers []Usage `json:"containers,omitempty"`
	GPUs       []GPU   `json:"gpus,omitempty"`
}

type Command struct {
	ID     int64    `json:"id"`
	Do     string   `json:"do"`
	GraceS *float64 `json:"grace_s"`
	Volume string   `json:"volume"`
}

type Answer struct {
	ID    int64        `json:"id"`
	Error string       `json:"error,omitempty"`
	Usage *UsageReport `json:"usage,omitempty"`
}

type Line struct {
	State  *State  `json:"state,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
}

type Started struct {
	Outcome string `json:"outcome"`
	PID     int    `json:"pid,omitempty"`
}

func line(v any) []byte {
	content, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of plain fields: only a NaN could do it
	}
	return append(content, '\n')
}

// decodeLaunch reads a launch document strictly: a field that we don't know is a promise that we would break.
func decodeLaunch(content []byte) (*Launch, error) {
	launch := &Launch{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(launch); err != nil {
		return launch, fmt.Errorf("launch document: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return launch, errors.New("launch document: something follows the document")
	}
	launch.complete()
	return launch, launch.check()
}

func (l *Launch) complete() {
	if l.Version == 0 {
		l.Version = documentVersion
	}
	if l.GraceS == nil {
		l.GraceS = pointer(30)
	}
	for i := range l.Init {
		l.Init[i].complete()
	}
	for i := range l.Containers {
		l.Containers[i].complete()
	}
	for i := range l.Volumes {
		if l.Volumes[i].Mode == nil {
			l.Volumes[i].Mode = pointer(uint32(0o755))
		}
	}
}

func (c *Container) complete() {
	setDefault(&c.Restart, "Always")
	setDefault(&c.StopSignal, "SIGTERM")
	setDefault(&c.TerminationMessagePath, "/dev/termination-log")
	for _, probe := range []*Probe{c.Startup, c.Readiness, c.Liveness} {
		if probe != nil {
			setDefault(&probe.PeriodS, 10)
			setDefault(&probe.TimeoutS, 1)
			setDefault(&probe.SuccessThreshold, 1)
			setDefault(&probe.FailureThreshold, 3)
		}
	}
}

// wellNamed keeps names fit for a path: they become folders.
func wellNamed(name string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return name != "" && len(name) <= 253 && strings.Contains(plain, name[:1]) && strings.Trim(name, plain+"._-") == ""
}

func (l *Launch) check() error {
	if l.Version != documentVersion {
		return fmt.Errorf("launch document: version %d; this runner reads %d", l.Version, documentVersion)
	}
	if l.PodUID == "" || l.Attempt == "" {
		return errors.New("launch document: pod_uid and attempt must not be empty")
	}
	if len(l.Containers) == 0 {
		return errors.New("launch document: no containers")
	}
	volumes := map[string]bool{}
	for _, volume := range l.Volumes {
		if !wellNamed(volume.Name) || volumes[volume.Name] {
			return fmt.Errorf("launch document: volume name %q is malformed or given twice", volume.Name)
		}
		volumes[volume.Name] = true
	}
	seen := map[string]bool{}
	for _, c := range append(append([]Container{}, l.Init...), l.Containers...) {
		if seen[c.Name] {
			return fmt.Errorf("launch document: two containers are named %q", c.Name)
		}
		seen[c.Name] = true
		if err := c.check(volumes); err != nil {
			return fmt.Errorf("launch document: container %q: %w", c.Name, err)
		}
	}
	return nil
}

func (c *Container) check(volumes map[string]bool) error {
	if !wellNamed(c.Name) {
		return errors.New("malformed name")
	}
	if len(c.Argv) == 0 {
		return errors.New("argv is empty")
	}
	if c.Restart != "Always" && c.Restart != "OnFailure" && c.Restart != "Never" {
		return fmt.Errorf("restart is %q, not Always, OnFailure or Never", c.Restart)
	}
	if _, err := signalNumber(c.StopSignal); err != nil {
		return err
	}
	for _, name := range c.DropCapabilities {
		if _, known := capabilities[name]; !known && name != "ALL" {
			return fmt.Errorf("drop_capabilities: there is no capability %q", name)
		}
	}
	for _, mount := range c.Mounts {
		if !volumes[mount.Volume] {
			return fmt.Errorf("mount of an unknown volume %q", mount.Volume)
		}
		if !strings.HasPrefix(mount.Path, "/") {
			return fmt.Errorf("mount path %q is not absolute", mount.Path)
		}
		if escapes(mount.SubPath) {
			return fmt.Errorf("sub_path %q leaves its volume", mount.SubPath)
		}
	}
	return c.checkActions()
}

func (c *Container) checkActions() error {
	actions := []*Action{c.PostStart, c.PreStop}
	for _, probe := range []*Probe{c.Startup, c.Readiness, c.Liveness} {
		if probe != nil {
			if probe.Action.Kind == "sleep" {
				return errors.New("a probe can't sleep")
			}
			actions = append(actions, &probe.Action)
		}
	}
	for _, action := range actions {
		if action == nil {
			continue
		}
		switch action.Kind {
		case "exec":
			if len(action.Command) == 0 {
				return errors.New("an exec action without a command")
			}
		case "http", "tcp", "grpc":
			if action.Port < 1 || action.Port > 65535 {
				return fmt.Errorf("%s action: port %d is not between 1 and 65535", action.Kind, action.Port)
			}
		case "sleep":
		default:
			return fmt.Errorf("action of unknown kind %q", action.Kind)
		}
	}
	return nil
}

func escapes(subPath string) bool {
	if strings.HasPrefix(subPath, "/") {
		return true
	}
	for _, part := range strings.Split(subPath, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func pointer[T any](value T) *T { return &value }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
