// Package packages builds what is released, looks at it with the tools of Debian, Red
// Hat and man, and installs it on the machine under test.
package packages

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	version = "1.2.3~test"
	epoch   = "1790000000"
)

// TestRelease builds everything once; its parts look at it.
func TestRelease(t *testing.T) {
	for _, tool := range []string{"dpkg-deb", "dpkg-parsechangelog", "rpm", "mandoc", "sha256sum", "ansible-playbook", "dropbear", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("%v (make setup installs it)", err)
		}
	}
	r := release{dir: t.TempDir()}
	r.build(t, "ARCHS=amd64 arm64")
	for _, test := range []struct {
		name string
		run  func(*testing.T, release)
	}{
		{"reproducible", testReproducible},
		{"checksums", testChecksums},
		{"programs", testPrograms},
		{"bills", testBills},
		{"manual", testManual},
		{"completion", testCompletion},
		{"deb", testDeb},
		{"links", testLinks},
		{"rpm", testRPM},
		{"docs/install.md", testInstallPage},
		{"rpm on a machine", testRPMOnMachine},
		{"install.sh on a machine", testInstallScript},
		{"Ansible on machines", testAnsible},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, r)
		})
	}
}

// release is a directory with all that is released.
type release struct{ dir string }

// build fills the directory. The profile of logship's hot path is left out for the other
// architecture: it only makes the compiler slower.
func (r release) build(t *testing.T, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../deploy/packages/dist.sh", r.dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH="+epoch, "CROSSFLAGS=-pgo=off")
	cmd.Env = append(cmd.Env, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist.sh: %v\n%s", err, out)
	}
}

// deb and rpm return the file of a program for an architecture as Go names it.
func (r release) deb(name, arch string) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s_%s-1_%s.deb", name, version, arch))
}

func (r release) rpm(name, arch string) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s-%s-1.%s.rpm", name, version, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]))
}

// unpack returns a directory with the files of a .deb.
func (r release) unpack(t *testing.T, name, arch string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "dpkg-deb", "-x", r.deb(name, arch), dir)
	return dir
}

// repack returns a .deb of a program as another version, whose defaults have another last
// line.
func (r release) repack(t *testing.T, name, to string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name+"_"+to+".deb")
	run(t, "sh", "-ec", `dpkg-deb -R "$1" "$2"
sed -i "s/^Version: .*/Version: $3/" "$2/DEBIAN/control"
echo "# $3" >>"$2/etc/$4/default.toml"
dpkg-deb -Z none -b "$2" "$5"`, "sh", r.deb(name, "amd64"), filepath.Join(dir, "tree"), to, name, file)
	return file
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	must(t, err)
	return b
}

// each calls f for both programs and both architectures.
func each(f func(name, arch string)) {
	for _, name := range []string{"logship", "healthd"} {
		for _, arch := range []string{"amd64", "arm64"} {
			f(name, arch)
		}
	}
}

// testReproducible builds again, elsewhere and in another zone, and compares bytes.
func testReproducible(t *testing.T, first release) {
	second := release{dir: filepath.Join(t.TempDir(), "elsewhere")}
	second.build(t, "ARCHS=amd64", "TZ=Asia/Tokyo", "TMPDIR="+t.TempDir(), "LC_ALL=C.UTF-8")
	files, err := filepath.Glob(filepath.Join(second.dir, "*amd64*"))
	must(t, err)
	rpms, err := filepath.Glob(filepath.Join(second.dir, "*.x86_64.rpm"))
	must(t, err)
	files = append(files, rpms...)
	if len(files) != 8 {
		t.Fatalf("%d files, want .deb, .rpm, .tar.gz and bill of 2 programs: %q", len(files), files)
	}
	for _, file := range files {
		if !bytes.Equal(read(t, file), read(t, first.dir, filepath.Base(file))) {
			t.Errorf("%s: the second one has other bytes", filepath.Base(file))
		}
	}
}

func testChecksums(t *testing.T, r release) {
	cmd := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	files, err := os.ReadDir(r.dir)
	must(t, err)
	for _, file := range files {
		if file.Name() != "SHA256SUMS" && !strings.Contains(string(out), file.Name()+": OK\n") {
			t.Errorf("%s is not in SHA256SUMS", file.Name())
		}
	}
	if len(files) != 17 {
		t.Errorf("%d files, want 16 and SHA256SUMS", len(files))
	}
}

// testPrograms: static, for the machine that the package says, with the version, and
// without paths of where they were built.
func testPrograms(t *testing.T, r release) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	each(func(name, arch string) {
		program := filepath.Join(r.unpack(t, name, arch), "usr/bin", name)
		f, err := elf.Open(program)
		must(t, err)
		defer f.Close()
		if f.Machine != machines[arch] {
			t.Errorf("%s %s is for %v", name, arch, f.Machine)
		}
		if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s %s is not static: %q", name, arch, libraries)
		}
		if f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil {
			t.Errorf("%s %s has debugging sections", name, arch)
		}
		info, err := buildinfo.ReadFile(program)
		must(t, err)
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
			t.Errorf("%s %s was built with %v", name, arch, settings)
		}
		if text := read(t, program); !bytes.Contains(text, []byte(version)) {
			t.Errorf("%s %s does not know its version", name, arch)
		}
	})
}

// testBills: every module that the program says it is made of, and no other, with a
// license.
func testBills(t *testing.T, r release) {
	each(func(name, arch string) {
		root := r.unpack(t, name, arch)
		var bill struct {
			BomFormat, SpecVersion string
			Metadata               struct {
				Component struct{ Name, Version string }
			}
			Components []struct{ Name, Version, PURL string }
		}
		data := read(t, r.dir, fmt.Sprintf("%s_%s_linux_%s.cdx.json", name, version, arch))
		must(t, json.Unmarshal(data, &bill))
		if !bytes.Equal(data, read(t, root, "usr/share/doc", name, "sbom.cdx.json")) {
			t.Errorf("%s %s: the package has another bill", name, arch)
		}
		if c := bill.Metadata.Component; bill.BomFormat != "CycloneDX" || bill.SpecVersion != "1.5" || c.Name != name || c.Version != version {
			t.Errorf("%s %s: %s %s of %+v", name, arch, bill.BomFormat, bill.SpecVersion, c)
		}
		info, err := buildinfo.ReadFile(filepath.Join(root, "usr/bin", name))
		must(t, err)
		want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, m := range info.Deps {
			want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
		}
		var got []string
		for _, c := range bill.Components {
			got = append(got, c.PURL)
		}
		if !slices.Equal(got, want) || len(want) < 10 {
			t.Errorf("%s %s: got %q, want %q", name, arch, got, want)
		}
		licenses := string(read(t, root, "usr/share/doc", name, "copyright"))
		for _, m := range info.Deps {
			if !strings.Contains(licenses, "---- "+m.Path+" "+m.Version+": ") {
				t.Errorf("%s has no license of %s", name, m.Path)
			}
		}
	})
}

// testManual: mandoc has nothing to warn of, and every verb is there.
func testManual(t *testing.T, r release) {
	for name, verbs := range map[string][]string{
		"logship": {"run", "check", "parse", "receive", "config", "dlq list", "replay", "import", "spool check", "types merge", "version"},
		"healthd": {"run", "check", "targets", "explain", "maintenance on", "config", "version"},
	} {
		page := filepath.Join(r.unpack(t, name, "amd64"), "usr/share/man/man8", name+".8.gz")
		plain := filepath.Join(t.TempDir(), name+".8")
		must(t, os.WriteFile(plain, []byte(run(t, "gzip", "-dc", page)), 0o644))
		run(t, "mandoc", "-T", "lint", "-W", "warning", plain)
		text := string(read(t, plain))
		for _, verb := range verbs {
			if !strings.Contains(text, "\n.SS \""+name+" "+verb) {
				t.Errorf("%s(8) does not tell of %s", name, verb)
			}
		}
		if want := ".TH \"" + strings.ToUpper(name) + "\" \"8\" \"2026-09-21\" \"" + name + " " + version; !strings.HasPrefix(text, want) {
			t.Errorf("%s(8) begins with %.80q", name, text)
		}
	}
}

// testCompletion: bash completes a verb and a flag with it.
func testCompletion(t *testing.T, r release) {
	root := r.unpack(t, "logship", "amd64")
	for _, file := range []string{"bash-completion/completions/logship", "zsh/vendor-completions/_logship", "fish/vendor_completions.d/logship.fish"} {
		if !bytes.Contains(read(t, root, "usr/share", file), []byte("logship")) {
			t.Errorf("%s is of another program", file)
		}
	}
	script := filepath.Join(root, "usr/share/bash-completion/completions/logship")
	run(t, "bash", "-n", script)
	// The script asks the program itself.
	if got := run(t, filepath.Join(root, "usr/bin/logship"), "__complete", "che"); !strings.HasPrefix(got, "check\t") {
		t.Errorf("che completes to %q", got)
	}
}

// conffiles of each package.
var conffiles = map[string]string{
	"logship": "/etc/logship/default.toml\n",
	"healthd": "/etc/healthd/default.toml\n/etc/healthd/healthd.toml\n",
}

// examples are what of deploy each package has for other programs.
var examples = map[string][]string{
	"logship": {"ansible", "graylog", "rsyslog", "syslog-ng"},
	"healthd": {"grafana", "nginx", "prometheus"},
}

// testLinks: what the documents of the packages lead to is there, where both are
// installed.
func testLinks(t *testing.T, r release) {
	roots := []string{r.unpack(t, "logship", "amd64"), r.unpack(t, "healthd", "amd64")}
	links := 0
	for i, name := range []string{"logship", "healthd"} {
		doc := filepath.Join("/usr/share/doc", name)
		pages, err := filepath.Glob(filepath.Join(roots[i], doc, "docs/*.md"))
		must(t, err)
		for _, page := range append(pages, filepath.Join(roots[i], doc, "README.md"), filepath.Join(roots[i], doc, "ARCHITECTURE.md")) {
			for _, m := range regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`).FindAllSubmatch(read(t, page), -1) {
				links++
				to := string(m[1])
				if !filepath.IsAbs(to) {
					at, err := filepath.Rel(roots[i], filepath.Dir(page))
					must(t, err)
					to = filepath.Join("/", at, to)
				}
				if !slices.ContainsFunc(roots, func(root string) bool { _, err := os.Stat(filepath.Join(root, to)); return err == nil }) {
					t.Errorf("%s leads to %s", page, to)
				}
			}
		}
	}
	if links < 200 {
		t.Errorf("%d links are found: the search is broken", links)
	}
}

func testDeb(t *testing.T, r release) {
	each(func(name, arch string) {
		file := r.deb(name, arch)
		for field, want := range map[string]string{"Package": name, "Version": version + "-1", "Architecture": arch, "Depends": "systemd (>= 249)"} {
			if got := strings.TrimSpace(run(t, "dpkg-deb", "-f", file, field)); got != want {
				t.Errorf("%s: %s %q, want %q", file, field, got, want)
			}
		}
		control := t.TempDir()
		run(t, "dpkg-deb", "-e", file, control)
		if got := string(read(t, control, "conffiles")); got != conffiles[name] {
			t.Errorf("%s: conffiles %q, want %q", file, got, conffiles[name])
		}
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			run(t, "sh", "-n", filepath.Join(control, script))
			if text := read(t, control, script); bytes.Contains(text, []byte("@name@")) || !bytes.Contains(text, []byte(name)) {
				t.Errorf("%s: %s is not filled in:\n%s", file, script, text)
			}
		}
		root := r.unpack(t, name, arch)
		for _, dir := range examples[name] {
			run(t, "diff", "-r", "../../deploy/"+dir, filepath.Join(root, "usr/share/doc", name, "examples", dir))
		}
		changes := filepath.Join(t.TempDir(), "changelog")
		text := run(t, "gzip", "-dc", filepath.Join(root, "usr/share/doc", name, "changelog.Debian.gz"))
		for line := range strings.Lines(text) {
			if len(line) > 81 && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("the changelog has a line of %d characters: %s", len(line)-1, line)
			}
		}
		must(t, os.WriteFile(changes, []byte(text), 0o644))
		parsed := run(t, "dpkg-parsechangelog", "-l", changes)
		for _, want := range []string{"Source: " + name + "\n", "Version: " + version + "\n", "Date: Mon, 21 Sep 2026", "* "} {
			if !strings.Contains(parsed, want) {
				t.Errorf("no %q in the changelog:\n%s", want, parsed)
			}
		}
		alerts, _ := os.ReadFile(filepath.Join(root, "usr/share/doc", name, "examples/prometheus/alerts.yml"))
		links := regexp.MustCompile(`(?m)^ +runbook: (/[^#\n]+)#`).FindAllSubmatch(alerts, -1)
		if name == "healthd" && len(links) < 20 {
			t.Errorf("%s: %d alerts with a runbook", file, len(links))
		}
		for _, link := range links {
			read(t, root, string(link[1]))
		}
		if strings.Contains(parsed, "warning") {
			t.Errorf("the changelog: %s", parsed)
		}
	})
}

func testRPM(t *testing.T, r release) {
	each(func(name, arch string) {
		file := r.rpm(name, arch)
		want := name + " " + version + " 1 " + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch] + " linux localhost " + epoch
		if got := run(t, "rpm", "-qp", "--qf", "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{OS} %{BUILDHOST} %{BUILDTIME}", file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
		if got := run(t, "rpm", "-qpc", file); got != conffiles[name] {
			t.Errorf("%s: configuration %q, want %q", file, got, conffiles[name])
		}
		if got := run(t, "rpm", "-qp", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", file); !strings.Contains(got, "/default.toml cn\n") {
			t.Errorf("%s: an edited default.toml would be replaced:\n%s", file, got)
		}
		for _, tag := range []string{"POSTIN", "PREUN", "POSTUN"} {
			script := filepath.Join(t.TempDir(), tag)
			text := run(t, "rpm", "-qp", "--qf", "%{"+tag+"}", file)
			must(t, os.WriteFile(script, []byte(text), 0o644))
			run(t, "sh", "-n", script)
			if !strings.Contains(text, "systemctl") || strings.Contains(text, "@name@") {
				t.Errorf("%s: %s:\n%s", file, tag, text)
			}
		}
		// The same files as the .deb has.
		root, deb := t.TempDir(), r.unpack(t, name, arch)
		run(t, "rpm", "--root", root, "--force-debian", "--install", "--nodeps", "--noscripts", "--ignorearch", file)
		for line := range strings.Lines(run(t, "rpm", "-qpl", file)) {
			path := strings.TrimSpace(line)
			if !bytes.Equal(read(t, root, path), read(t, deb, path)) {
				t.Errorf("%s is another file in the .deb", path)
			}
		}
	})
}
