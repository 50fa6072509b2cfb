#!/bin/sh
# Builds what is released: for each program and architecture a .deb, a .rpm and a
# .tar.gz with the same files, its bill of materials (CycloneDX), and SHA256SUMS.
#
#   dist.sh [DIR]      dist by default; another release in it is removed
#
# The same commit gives the same bytes: everything has the commit's time.
# Environment: VERSION, SOURCE_DATE_EPOCH (by default the commit's), ARCHS
# ("amd64 arm64"), MAINTAINER, CROSSFLAGS (of go build for another architecture than
# this machine's).
set -eu
umask 022
export LC_ALL=C TZ=UTC CGO_ENABLED=0

cd "$(dirname "$0")/../.."
mkdir -p "${1:-dist}"
dist=$(cd "${1:-dist}" && pwd)
rm -f "$dist"/*.deb "$dist"/*.rpm "$dist"/*.tar.gz "$dist"/*.cdx.json "$dist/SHA256SUMS"
go=${GO:-go}
host=$($go env GOHOSTARCH)
archs=${ARCHS:-amd64 arm64}
maintainer=${MAINTAINER:-root <root@localhost>}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"

# A tag v1.2.3 is version 1.2.3; anything else sorts before the version to come.
version() {
	tag=$(git describe --exact-match --tags --match 'v[0-9]*' 2>/dev/null) && echo "${tag#v}" && return
	next=$(sed -n 's/^var version = "\(.*\)-dev"$/\1/p' internal/cli/version.go)
	echo "$next~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$(git rev-parse --short=8 HEAD)"
}
version=${VERSION:-$(version)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# build ARCH: both programs.
build() {
	flags=
	[ "$1" = "$host" ] || flags=${CROSSFLAGS:-}
	# shellcheck disable=SC2086 # flags is a list
	GOARCH=$1 $go build $flags -trimpath -buildvcs=false -ldflags "-s -w -X sidecar/internal/cli.version=$version" \
		-o "$work/bin/$1/" ./cmd/logship ./cmd/healthd
}

# put MODE SOURCE DESTINATION: one file of a package.
put() { install -D -m "$1" "$2" "$root$3"; }

# changelog NAME: Debian's form of CHANGELOG.md (deb-changelog(5)), in lines of 80
# characters. What is not yet released is this version.
changelog() {
	awk -v name="$1" -v version="$version" -v by=" -- $maintainer  $(date -R -d "@$SOURCE_DATE_EPOCH")" '
		function item(  line, i) {
			for (i = 1; i <= words; i++) {
				if (i > 1 && length(line) + 1 + length(word[i]) > 80) { print line; line = "   " }
				line = line (i > 1 ? " " : "  ") word[i]
			}
			if (words) print line
			words = 0
		}
		function end() { item(); if (open) print "\n" by "\n"; open = 0 }
		/^## / { end(); open = 1; print name " (" ($2 == "Unreleased" ? version : $2) ") stable; urgency=medium\n" }
		open && /^\* / { item() }
		open && /^[* ] / { for (i = 1; i <= NF; i++) word[++words] = $i }
		END { end() }' CHANGELOG.md
}

# tree NAME ARCH: the files of a package below $root.
tree() {
	name=$1 root=$work/$1-$2/root
	program=$work/bin/$host/$name doc=/usr/share/doc/$name
	put 755 "$work/bin/$2/$name" "/usr/bin/$name"
	case $name in
	logship) put 644 config/default.toml /etc/logship/default.toml ;;
	healthd)
		put 644 config/healthd/default.toml /etc/healthd/default.toml
		put 644 deploy/packages/healthd.toml /etc/healthd/healthd.toml
		;;
	esac
	for unit in deploy/systemd/"$name"*.service deploy/systemd/"$name"*.socket; do
		put 644 "$unit" "/usr/lib/systemd/system/${unit##*/}"
	done
	for kind in sysusers tmpfiles; do
		[ ! -e "deploy/systemd/$name.$kind" ] || put 644 "deploy/systemd/$name.$kind" "/usr/lib/$kind.d/$name.conf"
	done
	for file in *.md docs/*.md docs/images/*; do put 644 "$file" "$doc/$file"; done
	relink "$root$doc"/*.md "$root$doc"/docs/*.md
	examples "$name"
	"$work/bill" -version "$version" "$work/bin/$2/$name" >"$root$doc/sbom.cdx.json"
	"$work/bill" -licenses "$work/bin/$2/$name" >"$root$doc/copyright"
	changelog "$name" | gzip -n9 >"$root$doc/changelog.Debian.gz"
	mkdir -p "$root/usr/share/man/man8" "$root/usr/share/bash-completion/completions" \
		"$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
	"$program" man | gzip -n9 >"$root/usr/share/man/man8/$name.8.gz"
	"$program" completion bash >"$root/usr/share/bash-completion/completions/$name"
	"$program" completion zsh >"$root/usr/share/zsh/vendor-completions/_$name"
	"$program" completion fish >"$root/usr/share/fish/vendor_completions.d/$name.fish"
}

# relink PAGE...: lets links into the repository lead to where the packages put the file.
relink() {
	sed -i -e 's|](\(\.\./\)*deploy/systemd/|](/usr/lib/systemd/system/|g' \
		-e 's#](\(\.\./\)*deploy/\(nginx\|prometheus\|grafana\)#](/usr/share/doc/healthd/examples/\2#g' \
		-e 's|](\(\.\./\)*deploy/|](/usr/share/doc/logship/examples/|g' \
		-e 's|](\(\.\./\)*config/healthd/|](/etc/healthd/|g' -e 's|](\(\.\./\)*config/|](/etc/logship/|g' "$@"
}

# examples NAME: what other programs need to work with this one.
examples() {
	case $1 in
	logship) set -- graylog rsyslog syslog-ng ansible ;;
	healthd) set -- nginx prometheus grafana ;;
	esac
	for dir; do
		[ -d "deploy/$dir" ] || continue
		mkdir -p "$root$doc/examples"
		cp -r "deploy/$dir" "$root$doc/examples/"
	done
}

# pack NAME ARCH SUMMARY UNITS: the packages of a tree. UNITS are enabled.
pack() {
	dir=$work/$1-$2
	mkdir -p "$dir/deb" "$dir/rpm"
	for file in nfpm.yaml deb/postinst deb/prerm deb/postrm rpm/post rpm/preun rpm/postun; do
		sed -e "s|@name@|$1|g" -e "s|@arch@|$2|g" -e "s|@version@|$version|g" -e "s|@maintainer@|$maintainer|g" \
			-e "s|@summary@|$3|g" -e "s|@units@|$4|g" "deploy/packages/$file" >"$dir/$file"
	done
	for format in deb rpm; do
		# It prints its errors where it prints what it does.
		(cd "$dir" && "$nfpm" package --packager $format --target "$dist/" >log) || { cat "$dir/log" >&2; exit 1; }
	done
	release=$1_${version}_linux_$2
	cp "$dir/root/usr/share/doc/$1/sbom.cdx.json" "$dist/$release.cdx.json"
	tar --create --directory "$dir/root" --sort=name --owner=0 --group=0 --numeric-owner --mode=go-w \
		--mtime="@$SOURCE_DATE_EPOCH" --transform "s|^\.|$release|" . --directory "$PWD/deploy" ./install.sh | gzip -n >"$dist/$release.tar.gz"
}

nfpm=$(cd tools && CGO_ENABLED=0 $go tool -n nfpm)
$go build -o "$work/bill" ./deploy/packages/bill
for arch in $host $archs; do
	[ -d "$work/bin/$arch" ] || build "$arch"
done
for arch in $archs; do
	tree logship "$arch"
	tree healthd "$arch"
	pack logship "$arch" 'ship the systemd journal to Graylog, confirmed' logship.service
	pack healthd "$arch" 'one /health, /metrics and status page for all services of a machine' \
		"$(cd deploy/systemd && echo healthd*.socket healthd.service)"
done
(cd "$dist" && sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json >SHA256SUMS)
echo "$dist has $version for $archs"
