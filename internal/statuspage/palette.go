package statuspage

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
)

// palette are the colours of the page by name, as custom properties of CSS. What is
// read has at least the contrast that WCAG 2.2 AA wants; a test has the pairs.
type palette map[string]string

// light is for prefers-color-scheme: light, and without preference.
var light = palette{
	"bg": "#f5f7fa", "card": "#ffffff", "line": "#dce2ea", "text": "#16202c", "muted": "#566273", "link": "#0a55bd",
	"pass": "#0f6e45", "pass-tint": "#e3f5eb", "pass-bar": "#1e9a62",
	"warn": "#855000", "warn-tint": "#fdf2d6", "warn-bar": "#b78103",
	"minor-bar": "#dd5d0c",
	"fail":      "#ad1d1a", "fail-tint": "#fde9e8", "fail-bar": "#cf2f2a",
	"maintenance": "#2353a0", "maintenance-tint": "#e7effc", "maintenance-bar": "#3b7ade",
	"unknown": "#4a5563", "unknown-tint": "#ebeef3", "unknown-bar": "#858f9e",
}

// dark is for prefers-color-scheme: dark.
var dark = palette{
	"bg": "#0d1218", "card": "#151c25", "line": "#2a3441", "text": "#e9eef4", "muted": "#9dabbb", "link": "#7fb4ff",
	"pass": "#62d79d", "pass-tint": "#10291e", "pass-bar": "#2fb177",
	"warn": "#f0c352", "warn-tint": "#2e250f", "warn-bar": "#d8a420",
	"minor-bar": "#f0813b",
	"fail":      "#ff918b", "fail-tint": "#371719", "fail-bar": "#ef5b53",
	"maintenance": "#8dbaff", "maintenance-tint": "#15243d", "maintenance-bar": "#4f8ff2",
	"unknown": "#b4c0cd", "unknown-tint": "#1f2833", "unknown-bar": "#6f7e91",
}

// css returns the palette as declarations, sorted.
func (p palette) css() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "--%s:%s;", name, p[name])
	}
	return b.String()
}

// makeCSS returns the style sheet, which is embedded in each page.
func makeCSS(rules string) template.CSS {
	return template.CSS(":root{color-scheme:light dark;" + light.css() + "}\n" +
		"@media (prefers-color-scheme:dark){:root{" + dark.css() + "}}\n" + rules)
}
