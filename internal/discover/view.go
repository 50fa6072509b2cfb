package discover

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// maxUnitBytes bounds how much of a unit file is read; systemd's own limit for a line is
// 1 MiB.
const maxUnitBytes = 1 << 20

// view is what one connection knows of the units. It is for one goroutine.
type view struct {
	bus    *bus
	ignore []string // immutable
	extra  []string // immutable; Options.Units
	// units are those that have a section: loaded ones, and templates.
	units map[string]unit
	// states of the units that are loaded and have a section or are extra, names by
	// their objects.
	states map[string]State
	names  map[dbus.ObjectPath]string
	// enabled are the services that start at boot.
	enabled []string
}

func newView(b *bus, o Options) *view {
	return &view{bus: b, ignore: o.Ignore, extra: o.Units, units: map[string]unit{}, states: map[string]State{}, names: map[dbus.ObjectPath]string{}}
}

// isWatched reports whether a unit is to be looked at.
func (v *view) isWatched(name string) bool {
	return canHaveSection(name) || slices.Contains(v.extra, name)
}

// canHaveSection reports whether units of this type are looked through for a section.
func canHaveSection(name string) bool {
	switch suffix(name) {
	case ".service", ".socket", ".timer":
		return true
	}
	return false
}

// scan looks at everything anew.
func (v *view) scan(ctx context.Context) error {
	rows, err := v.bus.units(ctx)
	if err != nil {
		return err
	}
	dirs, err := v.bus.unitPath(ctx)
	if err != nil {
		return err
	}
	clear(v.units)
	clear(v.states)
	clear(v.names)
	likely := v.scanFiles(dirs)
	for _, row := range rows {
		// What is "not-found" is only named by others.
		if row.Load != "loaded" || !likely(row.Name) {
			continue
		}
		if err := v.inspectLoaded(ctx, row.Name); err != nil {
			return err
		}
	}
	return nil
}

// scanFiles looks through the directories of unit files for templates and for what starts
// at boot. It returns which units may have a section: systemd need not be asked about the
// others, which are most. To be asked for ListUnitFiles costs systemd a second of a busy
// machine, in which it does nothing else.
func (v *view) scanFiles(dirs []string) (likely func(name string) bool) {
	withSection, known, dropIns := map[string]bool{}, map[string]bool{}, map[string]bool{}
	v.enabled = v.enabled[:0]
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // one that is not there has none
		for _, e := range entries {
			name := e.Name()
			if of, ok := strings.CutSuffix(name, ".d"); ok {
				dropIns[of] = true
			}
			if strings.HasSuffix(name, ".wants") || strings.HasSuffix(name, ".requires") {
				v.scanWants(filepath.Join(dir, name))
			}
			if !canHaveSection(name) || known[name] {
				continue // the first directory counts
			}
			known[name] = true
			file := filepath.Join(dir, name)
			text, err := readFile(file)
			withSection[name] = err != nil || strings.Contains(text, "["+SectionName+"]")
			if _, instance, template := split(name); template && instance == "" {
				v.inspectTemplate(name, file, dirs)
			}
		}
	}
	return func(name string) bool {
		if slices.Contains(v.extra, name) {
			return true
		}
		file := name
		if app, _, template := split(name); template && !known[name] {
			file = app + "@" + suffix(name)
		}
		return canHaveSection(name) && (!known[file] || withSection[file] || hasDropIn(dropIns, name))
	}
}

// scanWants notes the services that others want or require by a link (systemd.unit(5),
// "[Install]"). Those of the distribution are its own: their links lie beside their files.
func (v *view) scanWants(dir string) {
	if !strings.HasPrefix(dir, "/usr/") && !strings.HasPrefix(dir, "/lib/") {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if suffix(e.Name()) == ".service" {
				v.enabled = append(v.enabled, e.Name())
			}
		}
	}
}

// hasDropIn reports whether there are drop-ins for a unit (systemd.unit(5)): under its
// name, that of its template, a part of its name that ends with a dash, or its type.
func hasDropIn(dropIns map[string]bool, name string) bool {
	end := suffix(name)
	app, _, template := split(name)
	if dropIns[name] || template && dropIns[app+"@"+end] || dropIns[end[min(1, len(end)):]] {
		return true
	}
	for i := range len(app) {
		if app[i] == '-' && dropIns[app[:i+1]+end] {
			return true
		}
	}
	return false
}

// inspect looks at a unit that came, went, or changed.
func (v *view) inspect(ctx context.Context, name string) error {
	loaded, err := v.bus.loaded(ctx, name)
	if err != nil {
		return err
	}
	v.forget(name)
	if !loaded {
		return nil
	}
	return v.inspectLoaded(ctx, name)
}

func (v *view) forget(name string) {
	delete(v.units, name)
	delete(v.states, name)
	delete(v.names, object(name))
}

func (v *view) inspectLoaded(ctx context.Context, name string) error {
	files, err := v.bus.files(ctx, name)
	if err != nil {
		return ignoreGone(err)
	}
	section, found, problems := readSection(files)
	if !found && !slices.Contains(v.extra, name) {
		return nil
	}
	state, err := v.bus.state(ctx, name)
	if err != nil {
		return ignoreGone(err)
	}
	v.states[name] = state
	v.names[object(name)] = name
	if !found {
		return nil
	}
	v.units[name] = unit{name: name, section: section, problems: problems,
		enabled: state.Enabled, running: state.Active != "" && state.Active != "inactive"}
	return nil
}

// ignoreGone returns nil if a unit went while it was looked at: its signal will come.
func ignoreGone(err error) error {
	var answer dbus.Error
	if errors.As(err, &answer) {
		return nil
	}
	return err
}

// inspectTemplate looks at a template, which is never loaded itself.
func (v *view) inspectTemplate(name, file string, dirs []string) {
	files := []string{file}
	for _, dir := range slices.Backward(dirs) {
		dropIns, _ := filepath.Glob(filepath.Join(dir, name+".d", "*.conf")) // the pattern is right
		for _, d := range dropIns {
			if !slices.Contains(files, d) {
				files = append(files, d)
			}
		}
	}
	if section, found, problems := readSection(files); found {
		v.units[name] = unit{name: name, section: section, problems: problems}
	}
}

// readSection reads the section out of a unit's files. A file that cannot be read is a
// problem only if the others have a section.
func readSection(files []string) (Section, bool, []string) {
	var texts, problems []string
	for _, name := range files {
		text, err := readFile(name)
		if err != nil {
			problems = append(problems, err.Error())
		}
		texts = append(texts, text)
	}
	section, found, mistakes := ParseSection(texts...)
	return section, found, append(problems, mistakes...)
}

func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUnitBytes))
	return string(b), err
}

// update takes a signal about the properties of a unit. It returns the name of the unit,
// "" if that is not one with a section, and whether its state changed.
func (v *view) update(s *dbus.Signal) (name string, changed bool) {
	name = v.names[s.Path]
	if name == "" || len(s.Body) < 2 {
		return "", false
	}
	values, _ := s.Body[1].(map[string]dbus.Variant)
	state := v.states[name]
	changed = state.update(values)
	v.states[name] = state
	return name, changed
}

// settled takes over into the set what the states say by now.
func (v *view) settled() {
	for name, state := range v.states {
		u, ok := v.units[name]
		if !ok {
			continue
		}
		u.enabled, u.running = state.Enabled, state.Active != "" && state.Active != "inactive"
		v.units[name] = u
	}
}

// set returns what was found.
func (v *view) set() *Set {
	v.settled()
	all := make([]unit, 0, len(v.units))
	for _, u := range v.units {
		all = append(all, u)
	}
	s := &Set{Apps: assemble(all)}
	for _, name := range v.enabled {
		if !v.isKnown(name) && !v.isIgnored(name) {
			s.Silent = append(s.Silent, name)
		}
	}
	slices.Sort(s.Silent)
	s.Silent = slices.Compact(s.Silent)
	return s
}

// isKnown reports whether a unit, or its template, has a section.
func (v *view) isKnown(name string) bool {
	if _, ok := v.units[name]; ok {
		return true
	}
	app, _, template := split(name)
	_, ok := v.units[app+"@"+suffix(name)]
	return template && ok
}

func (v *view) isIgnored(name string) bool {
	return slices.ContainsFunc(v.ignore, func(pattern string) bool {
		ok, err := path.Match(pattern, strings.TrimSuffix(name, ".service"))
		return ok && err == nil
	})
}
