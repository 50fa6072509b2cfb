package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// readFilebeat reads the registry of Filebeat 7.9 and later, the directory
// registry/filebeat in its data directory (beats
// libbeat/statestore/backend/memlog/doc.go): a snapshot ID.json, an array of
// objects with the key under _key, and log.json, pairs of an operation and its
// object, with the operations after the snapshot. Inputs of type journald, those
// that use libsystemd and those that use journalctl, have keys that begin with
// "journald::" and a cursor with a position
// (filebeat/input/journald/input.go, checkpoint).
func readFilebeat(path string) ([]Checkpoint, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.IsDir() {
		path = filepath.Dir(path) // of log.json
	}
	if err := checkMeta(filepath.Join(path, "meta.json")); err != nil {
		return nil, err
	}
	snapshot, id, err := lastSnapshot(path)
	if err != nil {
		return nil, err
	}
	inputs, err := readSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	if err := applyLog(inputs, filepath.Join(path, "log.json"), id); err != nil {
		return nil, err
	}
	var found []Checkpoint
	for _, key := range slices.Sorted(maps.Keys(inputs)) {
		name, isJournal := strings.CutPrefix(key, "journald::")
		if !isJournal {
			continue
		}
		c, err := cursor(name, inputs[key].Cursor.Position)
		if err != nil {
			return nil, err
		}
		found = append(found, c...)
	}
	return found, nil
}

// input is what the registry holds of an input; those of other types have other
// members, or a cursor of another form.
type input struct {
	Key    string    `json:"_key"`
	Cursor journalAt `json:"cursor"`
}

// journalAt is the cursor of an input of type journald.
type journalAt struct{ Position string }

// UnmarshalJSON accepts anything, and keeps what is an object with a position.
func (j *journalAt) UnmarshalJSON(b []byte) error {
	var v struct{ Position any }
	if json.Unmarshal(b, &v) == nil {
		j.Position, _ = v.Position.(string)
	}
	return nil
}

// checkMeta refuses a registry of another version than 1.
func checkMeta(path string) error {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is not a registry: it has no meta.json")
	}
	if err != nil {
		return err
	}
	var meta struct{ Version any }
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("meta.json: %w", err)
	}
	if v := fmt.Sprint(meta.Version); v != "1" {
		return fmt.Errorf("meta.json: the registry has version %.64q, known is 1", v)
	}
	return nil
}

// lastSnapshot returns the path and the number of the newest snapshot in dir, ""
// and 0 if there is none.
func lastSnapshot(dir string) (path string, id uint64, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name, isJSON := strings.CutSuffix(e.Name(), ".json")
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && isJSON && n >= id {
			path, id = filepath.Join(dir, e.Name()), n
		}
	}
	return path, id, err
}

// readSnapshot returns the inputs in a snapshot by key.
func readSnapshot(path string) (map[string]input, error) {
	inputs := map[string]input{}
	if path == "" {
		return inputs, nil
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var list []input
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	for _, i := range list {
		inputs[i.Key] = i
	}
	return inputs, nil
}

// applyLog applies the operations after number id. As Filebeat does, it stops at
// an operation that was not written to its end.
func applyLog(inputs map[string]input, path string, id uint64) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, maxFileBytes))
	for {
		var op struct {
			Op string
			ID uint64
		}
		var kv struct {
			K string
			V input
		}
		if d.Decode(&op) != nil || d.Decode(&kv) != nil {
			return nil
		}
		switch {
		case op.ID <= id: // in the snapshot already
			continue
		case op.ID != id+1:
			return nil
		case op.Op == "set":
			inputs[kv.K] = kv.V
		case op.Op == "remove":
			delete(inputs, kv.K)
		}
		id = op.ID
	}
}
