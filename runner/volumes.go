package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The pod's directories. Uploaded files lie in a folder of their own under the volume, `..data` points at it, and the
// names that users see point through `..data`: one rename changes them all, as a kubelet does it.

const (
	dataLink   = "..data"
	mountWord  = "the machine does not let us mount"
	incoming   = "incoming"
	volumesDir = "volumes"
)

// prepare makes volumes and the machine's names ready; an error is the pod's failure.
func (p *pod) prepare() error {
	for i := range p.launch.Volumes {
		if err := p.makeVolume(&p.launch.Volumes[i]); err != nil {
			return fmt.Errorf("volume %q: %w", p.launch.Volumes[i].Name, err)
		}
	}
	p.nameMachine()
	for _, u := range p.units {
		if u.spec.ReadOnlyRoot && !p.mayMount {
			p.record(u.spec.Name, "ReadOnlyRootIgnored", true,
				"readOnlyRootFilesystem is not enforced: %s", mountWord)
		}
	}
	return nil
}

func (p *pod) volumePath(name string) string { return filepath.Join(p.root, volumesDir, name) }

func (p *pod) makeVolume(v *Volume) error {
	path := p.volumePath(v.Name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if v.InMemory && p.mayMount {
		options := "mode=" + strconv.FormatUint(uint64(*v.Mode), 8)
		if v.SizeLimitBytes != nil {
			options += ",size=" + strconv.FormatInt(*v.SizeLimitBytes, 10)
		}
		if err := syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
			return fmt.Errorf("in-memory volume: %w", err)
		}
	}
	if v.Group != nil {
		if err := os.Chown(path, -1, *v.Group); err != nil && os.Getuid() == 0 {
			return err
		}
	}
	mode := os.FileMode(*v.Mode & 0o777)
	if *v.Mode&0o1000 != 0 {
		mode |= os.ModeSticky
	}
	if *v.Mode&0o2000 != 0 {
		mode |= os.ModeSetgid
	}
	_, nothing := os.Stat(filepath.Join(p.root, incoming, v.Name))
	if v.Group != nil { // fsGroup's members may write, but not to what we put there
		mode |= os.ModeSetgid | 0o050
		if nothing != nil {
			mode |= 0o020
		}
	}
	if err := os.Chmod(path, mode); err != nil || nothing != nil {
		return err
	}
	return p.updateVolume(v.Name)
}

// updateVolume puts what was uploaded in place of what is there.
func (p *pod) updateVolume(name string) error {
	var volume *Volume
	for i := range p.launch.Volumes {
		if p.launch.Volumes[i].Name == name {
			volume = &p.launch.Volumes[i]
		}
	}
	if volume == nil {
		return fmt.Errorf("the pod has no volume %q", name)
	}
	p.updating.Lock()
	defer p.updating.Unlock()
	uploaded := filepath.Join(p.root, incoming, name)
	if _, err := os.Stat(uploaded); err != nil {
		return fmt.Errorf("nothing was uploaded to %s", uploaded)
	}
	path := p.volumePath(name)
	folder := ".." + time.Now().UTC().Format("2006_01_02_15_04_05.") + newID()[:10]
	staged := filepath.Join(path, folder)
	if err := moveTree(uploaded, staged); err != nil {
		return err
	}
	if err := openFolders(staged); err != nil {
		return err
	}
	if volume.Group != nil {
		giveToGroup(staged, *volume.Group)
	}
	return swap(path, folder)
}

func moveTree(source, target string) error {
	err := os.Rename(source, target)
	if errors.Is(err, syscall.EXDEV) { // onto a tmpfs
		if err = copyTree(source, target); err == nil {
			err = os.RemoveAll(source)
		}
	}
	return err
}

// openFolders, since the pod's users need a way to the files whatever modes the upload gave to folders on the way.
func openFolders(top string) error {
	return filepath.WalkDir(top, func(path string, item os.DirEntry, err error) error {
		if err != nil || !item.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// giveToGroup does what fsGroup asks of files that the pod gets: readable by the group whatever their mode says.
func giveToGroup(folder string, group int) {
	_ = filepath.WalkDir(folder, func(path string, item os.DirEntry, err error) error {
		if err != nil || item.Type()&os.ModeSymlink != 0 {
			return nil
		}
		_ = os.Lchown(path, -1, group)
		if info, err := item.Info(); err == nil {
			more := os.FileMode(0o440)
			if item.IsDir() {
				more = 0o550 | os.ModeSetgid
			}
			_ = os.Chmod(path, info.Mode()|more)
		}
		return nil
	})
}

// swap points ..data at folder, makes links for names that are new and removes those of names that are gone.
func swap(volume, folder string) error {
	data := filepath.Join(volume, dataLink)
	old, _ := os.Readlink(data)
	next := filepath.Join(volume, "..data_tmp")
	_ = os.Remove(next)
	if err := os.Symlink(folder, next); err != nil {
		return err
	}
	if err := os.Rename(next, data); err != nil {
		return err
	}
	items, err := os.ReadDir(filepath.Join(volume, folder))
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, item := range items {
		present[item.Name()] = true
		link := filepath.Join(volume, item.Name())
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join(dataLink, item.Name()), link); err != nil {
				return err
			}
		}
	}
	names, _ := os.ReadDir(volume)
	for _, name := range names {
		link := filepath.Join(volume, name.Name())
		there, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(there, dataLink+"/") && !present[name.Name()] {
			_ = os.Remove(link)
		}
	}
	if old != "" && old != folder {
		return os.RemoveAll(filepath.Join(volume, old))
	}
	return nil
}

// mountSource is what a mount shows: the volume, or the part of it that subPath names, as it is now.
func (p *pod) mountSource(u *unit, m Mount) (string, error) {
	volume := p.volumePath(m.Volume)
	if m.SubPath == "" {
		return volume, nil
	}
	wanted := filepath.Join(volume, m.SubPath)
	if _, err := os.Stat(wanted); os.IsNotExist(err) {
		if err := os.MkdirAll(wanted, 0o755); err != nil {
			return "", refuse(err, "subPath %q of volume %q", m.SubPath, m.Volume)
		}
		p.inheritGroup(m.Volume, wanted)
	}
	source, err := filepath.EvalSymlinks(wanted)
	if err != nil {
		return "", refuse(err, "subPath %q of volume %q", m.SubPath, m.Volume)
	}
	root, err := filepath.EvalSymlinks(volume)
	if err != nil {
		return "", refuse(err, "volume %q", m.Volume)
	}
	if source != root && !strings.HasPrefix(source, root+"/") {
		return "", &refusal{128, "StartError", fmt.Sprintf("subPath %q leaves volume %q", m.SubPath, m.Volume)}
	}
	if p.mayMount || !strings.HasPrefix(strings.TrimPrefix(source, root+"/"), "..") {
		return source, nil
	}
	// A link to uploaded files would dangle after the next update; a subPath keeps what it had.
	kept := filepath.Join(p.root, "containers", u.spec.Name, "subpaths", m.Volume, m.SubPath)
	_ = os.RemoveAll(kept)
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return "", err
	}
	return kept, copyTree(source, kept)
}

func (p *pod) inheritGroup(volume, path string) {
	for _, v := range p.launch.Volumes {
		if v.Name == volume && v.Group != nil {
			_ = os.Chown(path, -1, *v.Group)
			_ = os.Chmod(path, 0o775|os.ModeSetgid)
		}
	}
}

// place puts a volume at its path without mounting.
func (p *pod) place(m Mount, source string) error {
	err := linkInstead(source, m.Path)
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	// Something is mounted there (/dev/shm, say) and stays. An empty volume can live in it instead.
	if m.SubPath != "" {
		return err
	}
	items, readErr := os.ReadDir(source)
	if readErr != nil || len(items) > 0 {
		return err
	}
	if there, _ := os.Readlink(p.volumePath(m.Volume)); there == m.Path {
		return nil
	}
	if err := os.Remove(p.volumePath(m.Volume)); err != nil {
		return err
	}
	return os.Symlink(m.Path, p.volumePath(m.Volume))
}
