// Command bill prints what is in a program of Go: as a bill of materials in the JSON of
// CycloneDX 1.5, or, with -licenses, the license of each module and of Go itself. Both
// are read from the program (debug/buildinfo) and the module cache, and are the same
// every time.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
)

func main() {
	licenses := flag.Bool("licenses", false, "print licenses")
	version := flag.String("version", "", "version of the program")
	flag.Parse()
	if err := run(os.Stdout, flag.Arg(0), *version, *licenses); err != nil {
		fmt.Fprintln(os.Stderr, "bill:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, program, version string, licenses bool) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read what %s is made of: %w", program, err)
	}
	if licenses {
		return writeLicenses(w, info.Deps)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(newBill(info, version))
}

// bill is the part of a CycloneDX bill of materials that is known of a program.
type bill struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newBill(info *debug.BuildInfo, version string) bill {
	name := path.Base(info.Path)
	program := component{Type: "application", Ref: name, Name: name, Version: version}
	for _, s := range info.Settings {
		if s.Key == "GOOS" || s.Key == "GOARCH" || s.Key == "CGO_ENABLED" {
			program.Properties = append(program.Properties, property{Name: "build:" + s.Key, Value: s.Value})
		}
	}
	b := bill{Format: "CycloneDX", SpecVersion: "1.5", Version: 1, Metadata: metadata{program}}
	b.Components = append(b.Components, library("std", strings.TrimPrefix(info.GoVersion, "go")))
	for _, dep := range info.Deps {
		c := library(dep.Path, dep.Version)
		c.Properties = []property{{Name: "go:sum", Value: dep.Sum}}
		b.Components = append(b.Components, c)
	}
	return b
}

func library(name, version string) component {
	purl := "pkg:golang/" + name + "@" + version
	return component{Type: "library", Ref: purl, Name: name, Version: version, PURL: purl}
}

// writeLicenses prints the license files of Go and of modules. A module without one is
// an error.
func writeLicenses(w io.Writer, modules []*debug.Module) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find Go: %w", err)
	}
	if err := writeLicense(w, "Go", strings.TrimSpace(string(root))); err != nil {
		return err
	}
	for _, m := range modules {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", m.Path).Output()
		if err != nil {
			return fmt.Errorf("find %s: %w", m.Path, err)
		}
		if err := writeLicense(w, m.Path+" "+m.Version, strings.TrimSpace(string(dir))); err != nil {
			return err
		}
	}
	return nil
}

func writeLicense(w io.Writer, name, dir string) error {
	found := false
	for _, pattern := range []string{"LICEN[SC]E*", "COPYING*", "NOTICE*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			found = true
			if _, err := fmt.Fprintf(w, "---- %s: %s\n\n%s\n\n", name, filepath.Base(file), strings.TrimSpace(string(text))); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("find the license of %s in %s: there is none", name, dir)
	}
	return nil
}
