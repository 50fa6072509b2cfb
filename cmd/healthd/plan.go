package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
	"sidecar/internal/scrape"
)

// ownName is the group of healthd's own nodes; no target may have it.
const ownName = "healthd"

// brokenEvery is how often a check that cannot be made says so.
const brokenEvery = 10 * time.Second

// planner makes nodes and checks of apps. What is wrong with one of them costs that
// part, never the others.
type planner struct {
	c   *Config
	env probe.Env

	nodes  []health.Node
	checks []probe.Check
	// metrics are what is scraped.
	metrics []scrape.Target
	// units are the nodes that a unit stands behind, by its name: the check of the unit
	// itself, and the node of the worker.
	units map[string]unitNodes
	// found is what there is, for people.
	found []found
	// mistakes are by the key of the configuration.
	mistakes map[string][]string

	ids   map[string]bool
	slugs map[string]string // of public names: whose they are
	hubs  map[string]string // of checks of other healthds: whose they are
}

// unitNodes are the nodes that a unit stands behind.
type unitNodes struct{ checks, workers []string }

// found is an app as the verb targets shows it.
type found struct {
	Name     string   `json:"name"`
	Source   string   `json:"source"`
	Weight   string   `json:"weight"`
	Public   string   `json:"public,omitempty"`
	Group    string   `json:"group,omitempty"`
	Workers  []string `json:"workers,omitempty"`
	Quorum   int      `json:"quorum,omitempty"`
	Checks   []string `json:"checks"`
	Metrics  []string `json:"metrics,omitempty"`
	Problems []string `json:"problems,omitempty"`
}

func newPlanner(c *Config, env probe.Env) *planner {
	env.AllowRemote = c.Probe.AllowRemote
	return &planner{c: c, env: env, units: map[string]unitNodes{}, mistakes: map[string][]string{},
		ids: map[string]bool{ownName: true}, slugs: map[string]string{}, hubs: map[string]string{}}
}

// addConfig adds the groups and targets of the configuration.
func (p *planner) addConfig() {
	for _, name := range slices.Sorted(maps.Keys(p.c.Group)) {
		p.addGroup(name, p.c.Group[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.c.Target)) {
		a, mistakes := ofTarget(name, p.c.Target[name])
		for _, key := range slices.Sorted(maps.Keys(mistakes)) {
			p.mistake(a.key+"."+key, mistakes[key])
		}
		p.add(a, nil)
	}
}

// addUnits adds what was discovered.
func (p *planner) addUnits(set *discover.Set) {
	for _, a := range set.Apps {
		p.add(ofUnit(a), a.Problems)
	}
}

func (p *planner) mistake(key, text string) { p.mistakes[key] = append(p.mistakes[key], text) }

// addGroup adds a group of the configuration.
func (p *planner) addGroup(name string, g Group) {
	key := "group." + name
	if text := p.claim(name); text != "" {
		p.mistake(key, text)
		return
	}
	mistakes := map[string]string{}
	n := health.Node{ID: name, Parent: g.Group, Weight: parseWeight(g.Weight, mistakes), DependsOn: g.DependsOn,
		Quorum: g.Quorum, Of: g.Of, Hold: time.Duration(g.Hold)}
	if _, ok := p.c.Group[g.Group]; g.Group != "" && !ok {
		mistakes["group"] = fmt.Sprintf("there is no group %q", g.Group)
		n.Parent = ""
	}
	if text := p.publish(name, g.Public); text != "" {
		mistakes["public"] = text
	} else {
		n.Public = g.Public
	}
	for _, k := range slices.Sorted(maps.Keys(mistakes)) {
		p.mistake(key+"."+k, mistakes[k])
	}
	p.nodes = append(p.nodes, n)
}

// claim takes a name for a target or group, and returns what is wrong with it.
func (p *planner) claim(name string) string {
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@:\\") != "" {
		return fmt.Sprintf("%q is no name: use letters, digits and - _ . : @", name)
	}
	if p.ids[name] {
		return fmt.Sprintf("the name %q is taken", name)
	}
	p.ids[name] = true
	return ""
}

// publish takes a public name, and returns what is wrong with it.
func (p *planner) publish(owner, name string) string {
	if name == "" {
		return ""
	}
	if err := health.CheckPublic(name); err != nil {
		return err.Error()
	}
	if other, taken := p.slugs[health.Slug(name)]; taken {
		return fmt.Sprintf("the public name %q is that of %s already", name, other)
	}
	p.slugs[health.Slug(name)] = owner
	return ""
}

// add adds an app, with problems that it came with.
func (p *planner) add(a app, problems []string) {
	f := found{Name: a.name, Source: a.source, Weight: a.weight.String(), Public: a.public, Group: a.group, Problems: slices.Clone(problems)}
	bad := func(key, text string) {
		f.Problems = append(f.Problems, text)
		if a.key != "" {
			p.mistake(a.key+key, text)
		}
	}
	scraped := len(p.metrics)
	defer func() {
		for _, t := range p.metrics[scraped:] {
			f.Metrics = append(f.Metrics, t.Page.URL)
		}
		p.found = append(p.found, f)
	}()
	if text := p.claim(a.name); text != "" {
		bad("", text)
		return
	}
	top := health.Node{ID: a.name, Weight: a.weight, Parent: a.group, DependsOn: a.dependsOn, Hold: cmp.Or(a.hold, time.Duration(p.c.Judge.Hold))}
	if _, ok := p.c.Group[a.group]; a.group != "" && !ok {
		bad(".group", fmt.Sprintf("there is no group %q", a.group))
		top.Parent = ""
	}
	if text := p.publish(a.name, a.public); text != "" {
		bad(".public", text)
	} else {
		top.Public = a.public
	}
	if len(a.workers) == 1 && a.workers[0].name == "" {
		if a.quorum > 0 {
			bad(".quorum", "a quorum is for several workers")
		}
		f.Checks = p.addWorker(a, a.workers[0], top, bad)
		return
	}
	if top.Quorum, top.Of = a.quorum, len(a.workers); top.Quorum == 0 {
		top.Quorum = (len(a.workers) + 1) / 2
	}
	if top.Quorum > top.Of {
		bad(".quorum", fmt.Sprintf("a quorum of %d of %d workers can never be", top.Quorum, top.Of))
		top.Quorum = top.Of
	}
	f.Quorum = top.Quorum
	p.nodes = append(p.nodes, top)
	for _, w := range a.workers {
		f.Workers = append(f.Workers, w.name)
		checks := p.addWorker(a, w, health.Node{ID: a.name + "/" + w.name, Parent: a.name}, bad)
		f.Checks = append(f.Checks, checks...)
	}
}

// addWorker adds the checks of a worker under the node top, or as the node top if there
// is one only. It returns the checks as text.
func (p *planner) addWorker(a app, w worker, top health.Node, bad func(key, text string)) []string {
	texts := w.checks
	if w.unit != "" {
		texts = append([]string{"unit:" + w.unit}, w.checks...)
	}
	var leaves []health.Node
	labels := map[string]int{}
	for _, text := range texts {
		check, err := p.parse(a, text)
		if err != nil {
			bad(".checks", err.Error())
			check = broken(text, err)
		}
		leaf := p.leaf(a, check)
		leaf.ID = check.Kind
		if labels[check.Kind]++; labels[check.Kind] > 1 {
			leaf.ID = fmt.Sprintf("%s-%d", check.Kind, labels[check.Kind])
		}
		leaves = append(leaves, leaf)
		p.checks = append(p.checks, check)
	}
	checks := p.checks[len(p.checks)-len(leaves):]
	if len(leaves) == 1 {
		n := leaves[0]
		n.ID, n.Parent, n.Public, n.Weight, n.DependsOn, n.Hold = top.ID, top.Parent, top.Public, top.Weight, top.DependsOn, top.Hold
		leaves[0] = n
	} else {
		p.nodes = append(p.nodes, top)
		for i := range leaves {
			leaves[i].ID, leaves[i].Parent = top.ID+"/"+leaves[i].ID, top.ID
			// A service that does not run cannot answer: one cause, not two.
			if w.unit != "" && i > 0 {
				leaves[i].DependsOn = []string{leaves[0].ID}
			}
		}
	}
	for i := range leaves {
		checks[i].ID = leaves[i].ID
	}
	p.nodes = append(p.nodes, leaves...)
	p.addMetrics(a, w, bad)
	if w.unit != "" {
		u := p.units[w.unit]
		u.checks, u.workers = append(u.checks, leaves[0].ID), append(u.workers, top.ID)
		p.units[w.unit] = u
	}
	return texts
}

// parse makes a check.
func (p *planner) parse(a app, text string) (probe.Check, error) {
	extra := map[string]string{}
	if a.interval > 0 {
		extra["every"] = a.interval.String()
	}
	if a.timeout > 0 {
		extra["timeout"] = a.timeout.String()
	}
	check, err := probe.Parse(text, extra, p.env)
	if err == nil && strings.HasPrefix(check.Kind, "healthd") {
		err = p.machine(a, check)
	}
	if err == nil && check.Kind == "unit" {
		check.Run = a.limits.wrap(check.Run)
		check.Key += fmt.Sprint(a.limits)
	}
	return check, err
}

// machine returns what is wrong with asking another healthd: a line that was copied and
// not changed makes a quorum of one machine.
func (p *planner) machine(a app, check probe.Check) error {
	if slices.ContainsFunc(p.c.Private.Listen, func(own string) bool { return strings.HasPrefix(check.Key, "healthd://"+own+"#") }) {
		return fmt.Errorf("check %q: that is this healthd, which would keep itself down", strings.TrimSuffix(check.Key, "#"))
	}
	if other, taken := p.hubs[check.Key]; taken {
		return fmt.Errorf("check %q: it is that of %s already", strings.TrimSuffix(check.Key, "#"), other)
	}
	p.hubs[check.Key] = a.name
	return nil
}

// broken is the check of a text that is none: what cannot be checked is not well.
func broken(text string, err error) probe.Check {
	return probe.Check{Kind: "broken", Key: text, Every: brokenEvery, Timeout: brokenEvery, Run: func(context.Context) health.Result {
		return health.Result{State: health.Unknown, Text: err.Error()}
	}}
}

// leaf returns the node of a check, without its place.
func (p *planner) leaf(a app, check probe.Check) health.Node {
	n := health.Node{Every: check.Every, Grace: cmp.Or(a.grace, time.Duration(p.c.Judge.Grace))}
	if check.Kind == "unit" {
		return n // systemd does not err: its first word counts
	}
	n.Rise, n.Fall, n.X, n.Y = cmp.Or(a.rise, p.c.Judge.Rise), cmp.Or(a.fall, p.c.Judge.Fall), a.x, a.y
	return n
}

// finish drops dependencies on nodes that are not there.
func (p *planner) finish() {
	ids := map[string]bool{}
	for _, n := range p.nodes {
		ids[n.ID] = true
	}
	for i, n := range p.nodes {
		kept := slices.Clone(n.DependsOn)
		p.nodes[i].DependsOn = slices.DeleteFunc(kept, func(id string) bool {
			if ids[id] {
				return false
			}
			for j := range p.found {
				if p.found[j].Name == n.ID {
					p.found[j].Problems = append(p.found[j].Problems, fmt.Sprintf("it depends on %q, which does not exist", id))
				}
			}
			return true
		})
	}
}

// noUnits answers for systemd where a check is only parsed.
func noUnits(context.Context, string) (probe.Unit, error) {
	return probe.Unit{}, errors.New("units are not asked for here")
}
