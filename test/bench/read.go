package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"sidecar/internal/journal"
)

// reader reads every field of every entry of the journal in a directory.
type reader struct {
	name string
	read func(dir string) (entries int, err error)
}

func readers() []reader {
	return append([]reader{{"logship's reader", readNatively}}, libsystemdReaders()...)
}

func readNatively(dir string) (entries int, err error) {
	r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var e journal.Entry
	for ; r.Next(&e); entries++ {
	}
	return entries, r.Access()
}

// read reads the journal in dir and prints the number of its entries.
func read(name, dir string) error {
	i := slices.IndexFunc(readers(), func(r reader) bool { return r.name == name })
	if i < 0 {
		return fmt.Errorf("no reader %q", name)
	}
	n, err := readers()[i].read(dir)
	fmt.Println(n)
	return err
}

// journalReaders only read the journal, each in a process of its own.
func journalReaders(dir string, entries int) []contender {
	var all []contender
	for _, r := range readers() {
		all = append(all, contender{r.name + ": all fields", func() (sample, error) { return runReader(r.name, dir, entries) }})
	}
	return append(all, journalctl(dir, "export"))
}

func runReader(name, dir string, entries int) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	count, err := os.CreateTemp(dir, "count-")
	if err != nil {
		return sample{}, err
	}
	defer count.Close()
	cmd := exec.Command(self, "-read", name, filepath.Join(dir, "journal"))
	cmd.Stdout = count
	s, err := runCommand(cmd)
	if err != nil {
		return sample{}, err
	}
	b, err := os.ReadFile(count.Name())
	if want := strconv.Itoa(entries) + "\n"; err == nil && string(b) != want {
		err = fmt.Errorf("%s entries, want %d", b, entries)
	}
	return s, err
}
