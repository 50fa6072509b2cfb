package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sidecar/internal/health"
)

// usage is how full a file system is, as statfs(2) tells it.
type usage struct {
	blocks, free, available uint64 // available: to users other than root
	blockBytes              int64
	files, freeFiles        uint64 // 0 files: no fixed number, as on btrfs
	readOnly                bool
}

// diskLimits are how much of a file system may be used, in percent.
type diskLimits struct{ warn, fail, warnFiles, failFiles float64 }

// diskCheck is the check of the file system that a path is on.
//
// Options: warn and fail, percent of the space that is used (85, 95), inodes_warn and
// inodes_fail (85, 95), read_only (fail, or pass for file systems that are meant to be).
func diskCheck(t *target) (Func, error) {
	path, err := t.filePath()
	if err != nil {
		return nil, err
	}
	l := diskLimits{t.opt.percent("warn", 85), t.opt.percent("fail", 95), t.opt.percent("inodes_warn", 85), t.opt.percent("inodes_fail", 95)}
	mayBeReadOnly := t.opt.oneOf("read_only", "fail", "fail", "pass") == "pass"
	if l.warn > l.fail || l.warnFiles > l.failFiles {
		t.opt.bad("warn", errors.New("it is above the limit of fail"))
	}
	return func(context.Context) health.Result {
		var s unix.Statfs_t
		if err := unix.Statfs(path, &s); err != nil {
			return fail("statfs %s: %v", cutText(path, 100), err)
		}
		u := usage{s.Blocks, s.Bfree, s.Bavail, s.Bsize, s.Files, s.Ffree, s.Flags&unix.ST_RDONLY != 0 && readOnly(path)}
		return l.judge(u, mayBeReadOnly)
	}, nil
}

// judge tells a result. What only root may use counts as used, as with df(1).
func (l diskLimits) judge(u usage, mayBeReadOnly bool) health.Result {
	used := u.blocks - min(u.free, u.blocks)
	space := percentOf(used, used+u.available)
	files := percentOf(u.files-min(u.freeFiles, u.files), u.files)
	state := health.Pass
	switch {
	case space >= l.fail, files >= l.failFiles:
		state = health.Fail
	case space >= l.warn, files >= l.warnFiles:
		state = health.Warn
	}
	text := fmt.Sprintf("%.0f%% of the space used", space)
	if u.files > 0 {
		text += fmt.Sprintf(", %.0f%% of the inodes", files)
	}
	if u.readOnly && !mayBeReadOnly {
		state, text = health.Fail, "read-only; "+text
	}
	r := measured(result(state, "%s", text), "used_ratio", space/100)
	r = measured(r, "free_bytes", float64(u.available)*float64(u.blockBytes))
	if u.files > 0 {
		r = measured(r, "inodes_used_ratio", files/100)
	}
	return r
}

// readOnly reports whether the file system itself is read-only, as the kernel makes it
// after an error, and not only the mount that this process sees: the sandbox of a unit
// (systemd.exec(5), ProtectSystem=strict) shows everything so. Where that cannot be found
// out, what the mount says counts.
func readOnly(path string) bool {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &s); err != nil || s.Mask&unix.STATX_MNT_ID == 0 {
		return true
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	return superReadOnly(mounts, s.Mnt_id)
}

// superReadOnly looks for a mount in the text of /proc/PID/mountinfo
// (proc_pid_mountinfo(5)): "ID parent device root place options … - type source options",
// where the last options are those of the file system.
func superReadOnly(mounts []byte, id uint64) bool {
	for line := range strings.Lines(string(mounts)) {
		mount, system, _ := strings.Cut(strings.TrimSpace(line), " - ")
		if first, _, _ := strings.Cut(mount, " "); first == strconv.FormatUint(id, 10) {
			options := system[strings.LastIndexByte(system, ' ')+1:]
			return slices.Contains(strings.Split(options, ","), "ro")
		}
	}
	return true
}

// percentOf returns part of whole in percent, 0 if whole is 0.
func percentOf(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}
