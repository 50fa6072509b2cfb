package discover

import (
	"fmt"
	"slices"
	"strings"
)

// Set is what was found at one time. It is immutable: nobody may change what it
// holds.
type Set struct {
	// Apps are the services that are to be watched, by name.
	Apps []App
	// Silent are the enabled services without a section, by unit name, without
	// those that were to be ignored.
	Silent []string
}

// App is a service, of one unit or of all instances of a template.
type App struct {
	// Name is the name of the unit without instance and suffix: "payments".
	Name string
	// Section is that of the unit file; of a template that of its first instance.
	Section Section
	// Workers are the units and checks, in the order of their numbers; never empty.
	Workers []Worker
	// Problems are mistakes in the section, and what does not fit together.
	Problems []string
}

// Worker is one process of an app.
type Worker struct {
	// Name is the instance, or the number of the worker; "" for an app that is one
	// unit and says nothing of workers.
	Name string
	// Unit is the unit that the worker belongs to: "payments@3.service".
	Unit string
	// Health are the checks and Metrics is the place of the metrics, with
	// specifiers replaced.
	Health  []string
	Metrics string
}

// unit is what is known of one unit that has a section.
type unit struct {
	name     string // "payments@3.service"
	section  Section
	problems []string
	enabled  bool // to be running whenever the machine is
	running  bool // it is not inactive
}

// split returns the parts of a unit's name: "payments@3.service" is the app
// "payments" and the instance "3".
func split(name string) (app, instance string, template bool) {
	name = name[:max(0, strings.LastIndexByte(name, '.'))]
	return strings.Cut(name, "@")
}

// suffix returns the type of a unit with its dot: ".service".
func suffix(name string) string { return name[max(0, strings.LastIndexByte(name, '.')):] }

// assemble makes the apps of units with a section.
//
// A unit counts if it is to be running (enabled, or one of the Workers of its
// template) or is. One that was started by hand and stopped again is nobody's loss.
func assemble(units []unit) []App {
	groups := map[string][]unit{}
	for _, u := range units {
		app, instance, template := split(u.name)
		if template && instance == "" && u.section.Workers == nil {
			continue // says how its instances are watched, and not which there are
		}
		if template && instance == "" || u.enabled || u.running || slices.Contains(u.section.Workers, instance) {
			groups[app+suffix(u.name)] = append(groups[app+suffix(u.name)], u)
		}
	}
	var apps []App
	for _, group := range groups {
		slices.SortFunc(group, func(a, b unit) int { return compareNames(a.name, b.name) })
		apps = append(apps, assembleApp(group))
	}
	slices.SortFunc(apps, func(a, b App) int { return strings.Compare(a.Workers[0].Unit, b.Workers[0].Unit) })
	// A service and a timer may share a name: the service has it.
	for i := range apps {
		if s := suffix(apps[i].Workers[0].Unit); s != ".service" && slices.ContainsFunc(apps, func(a App) bool {
			return a.Name == apps[i].Name && suffix(a.Workers[0].Unit) == ".service"
		}) {
			apps[i].Name += s
		}
	}
	return apps
}

// assembleApp makes an app of its units, which are one, or instances of a template and
// perhaps the template itself.
func assembleApp(group []unit) App {
	first := group[0]
	name, _, template := split(first.name)
	app := App{Name: name, Section: first.section, Problems: slices.Clone(first.problems)}
	names := slices.Clone(first.section.Workers)
	if template {
		for _, u := range group {
			_, instance, _ := split(u.name)
			if instance == "" || slices.Contains(names, instance) {
				continue
			}
			if app.Section.Workers != nil {
				app.Problems = append(app.Problems, fmt.Sprintf("%s is not one of the Workers of the section", u.name))
			}
			names = append(names, instance)
		}
		slices.SortFunc(names, compareNames)
	}
	if len(names) == 0 {
		names = []string{""}
	}
	for _, worker := range names {
		unit := first.name
		if template {
			unit = name + "@" + worker + suffix(first.name)
		}
		app.add(unit, worker)
	}
	return app
}

// add appends a worker.
func (a *App) add(unit, name string) {
	w := Worker{Name: name, Unit: unit}
	for _, text := range a.Section.Health {
		url, err := Expand(text, unit, name)
		if err != nil {
			a.problem(fmt.Sprintf("Health=%s: %v", text, err))
			continue
		}
		w.Health = append(w.Health, url)
	}
	var err error
	if w.Metrics, err = Expand(a.Section.Metrics, unit, name); err != nil {
		a.problem(fmt.Sprintf("Metrics=%s: %v", a.Section.Metrics, err))
	}
	a.Workers = append(a.Workers, w)
}

// problem notes a problem, once.
func (a *App) problem(text string) {
	if !slices.Contains(a.Problems, text) {
		a.Problems = append(a.Problems, text)
	}
}

// compareNames orders names as people count: worker 9 before worker 10.
func compareNames(a, b string) int {
	if n := len(a) - len(b); n != 0 && strings.Trim(a, "0123456789") == strings.Trim(b, "0123456789") {
		return n
	}
	return strings.Compare(a, b)
}
