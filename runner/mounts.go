package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// Putting a volume at its path: by a bind mount in the container's own view where mounting is allowed, else by a
// symbolic link in the one view that everything on the machine shares.

func bindMount(b bind) error {
	info, err := os.Stat(b.Source)
	if err != nil {
		return err
	}
	if err := makeTarget(b.Target, info.IsDir()); err != nil {
		return err
	}
	if err := syscall.Mount(b.Source, b.Target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	if b.ReadOnly {
		return remountReadOnly(b.Target)
	}
	return nil
}

func makeTarget(path string, directory bool) error {
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// remountReadOnly must repeat the flags that the mount has already: in a user namespace they are locked.
func remountReadOnly(path string) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return err
	}
	const known = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC | syscall.MS_NOATIME |
		syscall.MS_NODIRATIME | syscall.MS_RELATIME
	flags := uintptr(stat.Flags) & 0xf // ST_RDONLY, NOSUID, NODEV, NOEXEC have the numbers of their MS_ twins
	for _, pair := range [][2]uintptr{{0x400, syscall.MS_NOATIME}, {0x800, syscall.MS_NODIRATIME}, {0x1000, syscall.MS_RELATIME}} {
		if uintptr(stat.Flags)&pair[0] != 0 {
			flags |= pair[1]
		}
	}
	return syscall.Mount("", path, "", flags&known|syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

// linkInstead makes path a symbolic link to source. What was there before is moved aside, and stays there.
func linkInstead(source, path string) error {
	path = filepath.Clean(path)
	if there, err := os.Readlink(path); err == nil && there == source {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		if err := moveAside(path); err != nil {
			return err
		}
	}
	return os.Symlink(source, path)
}

const asideSuffix = ".before-bareboat"

func moveAside(path string) error {
	aside := path + asideSuffix
	if _, err := os.Lstat(aside); err == nil {
		return os.RemoveAll(path) // what the image had is safe already; this came later
	}
	err := os.Rename(path, aside)
	if errors.Is(err, syscall.EXDEV) {
		// A directory of a lower layer of an overlay can't be renamed.
		if err = copyTree(path, aside); err == nil {
			err = os.RemoveAll(path)
		}
	}
	return err
}

// copyTree keeps modes, owners and links; devices and sockets are left out.
func copyTree(source, target string) error {
	info, err := os.Lstat(source)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		there, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(there, target)
	case info.IsDir():
		if err := os.MkdirAll(target, info.Mode().Perm()); err != nil {
			return err
		}
		entries, err := os.ReadDir(source)
		if err != nil {
			return err
		}
		for _, each := range entries {
			if err := copyTree(filepath.Join(source, each.Name()), filepath.Join(target, each.Name())); err != nil {
				return err
			}
		}
	case info.Mode().IsRegular():
		if err := copyFile(source, target, info.Mode().Perm()); err != nil {
			return err
		}
	default:
		return nil
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Lchown(target, int(stat.Uid), int(stat.Gid))
	}
	return os.Chmod(target, info.Mode()&(os.ModePerm|os.ModeSetgid|os.ModeSticky))
}

func copyFile(source, target string, mode os.FileMode) error {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := to.ReadFrom(from); err != nil {
		to.Close()
		return err
	}
	return to.Close()
}
