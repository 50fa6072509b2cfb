package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sidecar/internal/atomicfile"
	"sidecar/internal/cli"
)

// stateFile is the name of the file in the state directory.
const stateFile = "state.json"

// stateVersion is the version of its format.
const stateVersion = 1

// savedState is the state file: what a restart must not forget. Each part is a document
// of the package that owns it.
type savedState struct {
	Version      int             `json:"version"`
	Tree         json.RawMessage `json:"tree"`
	Audience     json.RawMessage `json:"audience,omitempty"`
	Heartbeats   json.RawMessage `json:"heartbeats,omitempty"`
	Certificates json.RawMessage `json:"certificates,omitempty"`
}

// lockState creates the state directory and takes a lock on it, for as long as the file
// is open: two healthds would write over what the other one has judged.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, cli.WithCode(cli.ExitTemporary, fmt.Errorf("lock %s: another healthd uses it: set state.dir to another one", dir))
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return lock, nil
}

// restore takes over what an earlier process saved. What cannot be read is kept beside
// it for people, and everything begins anew: that is no reason not to watch.
func (w *watcher) restore() error {
	path := filepath.Join(w.c.stateDir(), stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.restoreFrom(b); err != nil {
		w.log.Error("the saved state is of no use, history begins anew", "path", path, "err", err)
		return os.Rename(path, path+".bad")
	}
	return nil
}

func (w *watcher) restoreFrom(b []byte) error {
	var s savedState
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.Version != stateVersion {
		return fmt.Errorf("version %d, want %d", s.Version, stateVersion)
	}
	errs := []error{w.tree.Restore(time.Now(), s.Tree)}
	if s.Audience != nil {
		errs = append(errs, w.audience.Restore(s.Audience))
	}
	if s.Heartbeats != nil {
		errs = append(errs, w.env.Heartbeats.UnmarshalJSON(s.Heartbeats))
	}
	if s.Certificates != nil {
		errs = append(errs, w.env.Certificates.UnmarshalJSON(s.Certificates))
	}
	return errors.Join(errs...)
}

// forget drops what is remembered of targets that are gone, if it is known which are.
func (w *watcher) forget() {
	if w.ready() != nil {
		return
	}
	var keys []string
	for _, c := range w.scheduler.Statuses() {
		keys = append(keys, c.Key)
	}
	w.env.Keep(keys)
}

// save stores the state durably.
func (w *watcher) save() error {
	w.forget()
	tree, err := w.tree.Save(time.Now())
	if err != nil {
		return err
	}
	audience, err := w.audience.Save()
	if err != nil {
		return err
	}
	heartbeats, err := w.env.Heartbeats.MarshalJSON()
	if err != nil {
		return err
	}
	certificates, err := w.env.Certificates.MarshalJSON()
	if err != nil {
		return err
	}
	b, err := json.Marshal(savedState{stateVersion, tree, audience, heartbeats, certificates})
	if err != nil {
		return err
	}
	w.saving.Lock() // one file, and two may want to write it
	defer w.saving.Unlock()
	return atomicfile.Replace(filepath.Join(w.c.stateDir(), stateFile), b)
}

// saveTimeout is how long saving waits for a scrape; the next time is soon.
const saveTimeout = time.Second

// saveSums stores what the sums of metrics are made of.
func (w *watcher) saveSums() error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	err := w.scraper.Save(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// keepSaving saves every now and then, and at the end.
func (w *watcher) keepSaving(ctx context.Context) {
	ticker := time.NewTicker(time.Duration(w.c.State.Save))
	defer ticker.Stop()
	failed := false
	for end := false; !end; {
		select {
		case <-ctx.Done():
			end = true
		case <-ticker.C:
		}
		err := errors.Join(w.save(), w.saveSums())
		switch {
		case err != nil && !failed:
			w.log.Error("state is not saved", "err", err)
		case err == nil && failed:
			w.log.Info("state is saved again")
		}
		failed = err != nil
	}
}
