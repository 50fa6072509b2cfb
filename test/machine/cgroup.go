package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cgroupPrefix starts the name of every machine. The process ID of the process
// that started it and a random number follow.
const cgroupPrefix = "logship-machine-"

// hierarchies returns the cgroup hierarchies in which systemd keeps units: the
// unified one, or those of the hybrid and legacy layouts (cgroups(7)).
func hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	var dirs []string
	for _, dir := range []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// makeCgroups makes a cgroup of a new name in every hierarchy and returns the
// name and the directories.
//
// systemd-nspawn --keep-unit makes its cgroups below the one that it is in. Two
// machines in one cgroup would share those of their units.
func makeCgroups() (name string, dirs []string, err error) {
	for _, hierarchy := range hierarchies() {
		var dir string
		if name == "" {
			dir, err = os.MkdirTemp(hierarchy, fmt.Sprintf("%s%d-*", cgroupPrefix, os.Getpid()))
			name = filepath.Base(dir)
		} else {
			dir = filepath.Join(hierarchy, name)
			err = os.Mkdir(dir, 0o755)
		}
		if err != nil {
			return "", nil, errors.Join(fmt.Errorf("make cgroup: %w", err), removeCgroups(dirs))
		}
		dirs = append(dirs, dir)
	}
	return name, dirs, nil
}

// removeCgroups removes the cgroups with all below them. They hold no processes.
func removeCgroups(dirs []string) error {
	var errs []error
	for _, top := range dirs {
		var below []string
		walkErr := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				below = append(below, path)
			}
			return err
		})
		errs = append(errs, walkErr)
		for _, dir := range slices.Backward(below) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// sweep removes the cgroups of machines whose process was killed before it
// could: the only thing that can outlive it. Cgroups that are in use cannot be
// removed, so errors mean nothing.
func sweep() {
	for _, hierarchy := range hierarchies() {
		dirs, err := filepath.Glob(filepath.Join(hierarchy, cgroupPrefix+"*"))
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")
			pid, err := strconv.Atoi(number)
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				_ = removeCgroups([]string{dir})
			}
		}
	}
}
