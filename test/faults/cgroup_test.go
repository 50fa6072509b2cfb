package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// freeze stops a process by a cgroup of its own (cgroups(7), "freezer"), and returns what
// lets it go on. The cgroup is removed with the test.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	parent, file, frozen, thawed := "/sys/fs/cgroup", "cgroup.freeze", "1", "0"
	if _, err := os.Stat(parent + "/freezer"); err == nil {
		parent, file, frozen, thawed = parent+"/freezer", "freezer.state", "FROZEN", "THAWED"
	}
	group, err := os.MkdirTemp(parent, "logship-faults-*")
	must(t, err)
	enter := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
	set := func(state string) error { return os.WriteFile(filepath.Join(group, file), []byte(state), 0) }
	t.Cleanup(func() {
		_ = set(thawed)   // it may have ended
		_ = enter(parent) // the same
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	must(t, enter(group))
	must(t, set(frozen))
	until(t, patience, func() (bool, string) {
		state, err := os.ReadFile(filepath.Join(group, file))
		must(t, err)
		return strings.TrimSpace(string(state)) == frozen, "the process is not frozen"
	})
	return func() { must(t, set(thawed)) }
}
