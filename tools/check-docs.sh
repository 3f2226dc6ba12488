#!/bin/bash
# Checks the documentation: links within the repository lead to existing files and headings, code paths named in the
# maps exist, and the index of design decisions is complete. `make lint` runs it.
#
# tools/check-docs.sh [DIRECTORY]   the repository to check; by default that of this script
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# All files, including new ones; without git, all except build products.
files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
    else
        find . -name target -prune -o -type f -print | sed 's|^\./||'
    fi
}
# Templates are separate projects.
mapfile -t pages < <(files | grep '\.md$' | grep -v '/templates/')
[ "${#pages[@]}" -gt 0 ] || { echo "check-docs: no pages in $PWD" >&2; exit 1; }

# In these pages, text that looks like a code path must be the end of an existing path, with or without its `src/`.
maps=(ARCHITECTURE.md docs/WALKTHROUGH.md CONTRIBUTING.md SECURITY.md docs/SECURITY.md docs/design/)

files | awk -v maps="${maps[*]}" '
    # The anchor that GitHub derives from a heading. A repeated anchor gets a number.
    function slug(text) {
        gsub(/\[|\]\([^)]*\)/, "", text); gsub(/`/, "", text)
        text = tolower(text); gsub(/[^a-z0-9 _-]/, "", text); gsub(/ /, "-", text)
        return text
    }
    function wrong(what) { printf "%s:%d: %s\n", page, number, what; mistakes++ }
    function headings(file,    line, code, name) {
        if (file in known) return
        known[file] = 1
        while ((getline line < file) > 0) {
            if (line ~ /^ *```/) code = !code
            if (code || line !~ /^#+ /) continue
            sub(/^#+ +/, "", line); name = slug(line)
            anchors[file, name (seen[file, name]++ ? "-" seen[file, name] - 1 : "")] = 1
        }
        close(file)
    }
    # Removes `.` and `..` from a path: a/b/../c becomes a/c.
    function plain(path,    parts, count, i, out, depth) {
        count = split(path, parts, "/"); depth = 0
        for (i = 1; i <= count; i++) {
            if (parts[i] == "" || parts[i] == ".") continue
            if (parts[i] == "..") { if (depth == 0) return ""; depth--; continue }
            out[++depth] = parts[i]
        }
        path = ""
        for (i = 1; i <= depth; i++) path = path (i > 1 ? "/" : "") out[i]
        return path
    }
    function link(target,    file, anchor, at) {
        if (target ~ /^[a-z]+:/) return
        links++
        at = index(target, "#")
        file = at ? substr(target, 1, at - 1) : target; anchor = at ? substr(target, at + 1) : ""
        if (file == "") file = page
        else if ((file = plain(folder file)) != "" && !(file in exists)) { wrong("there is no " file ": " target); return }
        if (anchor == "") return
        if (file !~ /\.md$/) { wrong("only pages have headings: " target); return }
        headings(file)
        if (!((file, anchor) in anchors)) wrong("there is no heading #" anchor " in " file)
    }
    function code(word) {
        if (word !~ /^[A-Za-z0-9_.\/-]+$/ || word ~ /^[\/.]/ || word !~ /(\.(rs|wit|sh|mk)|[a-z0-9]\/)$/) return
        paths++
        sub(/\/$/, "", word)
        if (!(word in tails)) wrong("no path ends in " word)
    }
    function is_map(file,    list, count, i) {
        count = split(maps, list, " ")
        for (i = 1; i <= count; i++) if (file == list[i] || list[i] ~ /\/$/ && index(file, list[i]) == 1) return 1
        return 0
    }
    # Stores all ends of a path.
    function ends(tail) {
        while (!(tail in tails)) { tails[tail] = 1; if (!sub(/^[^\/]*\//, "", tail)) break }
    }
    # The list of all files comes first, followed by the pages.
    FILENAME == "-" {
        path = $0; exists[path] = 1
        while (path != "") {
            exists[path] = 1
            ends(path)
            short = path
            if (sub(/\/src\//, "/", short)) ends(short)
            if (!sub(/\/[^\/]*$/, "", path)) path = ""
        }
        next
    }
    FNR == 1 {
        page = FILENAME; folder = page; if (!sub(/[^\/]*$/, "", folder)) folder = ""
        fenced = 0; map = is_map(page); read++
    }
    { number = FNR; line = $0 }
    line ~ /^ *```/ { fenced = !fenced }
    fenced || line ~ /^    [^ *0-9-]/ { next }
    {
        if (map) {
            rest = line
            while (match(rest, /`[^`]+`/)) { code(substr(rest, RSTART + 1, RLENGTH - 2)); rest = substr(rest, RSTART + RLENGTH) }
        }
        # Removes code, including text in it that looks like a link.
        while (match(line, /`[^`]*`/)) line = substr(line, 1, RSTART - 1) "x" substr(line, RSTART + RLENGTH)
        while (match(line, /\]\([^) ]+\)/)) { link(substr(line, RSTART + 2, RLENGTH - 3)); line = substr(line, RSTART + RLENGTH) }
        if (match(line, /^\[[^]]+\]: */)) link(substr(line, RLENGTH + 1))
        if (page == "docs/design/README.md") index_text = index_text $0
    }
    END {
        page = "docs/design/README.md"; number = 1
        for (path in exists) {
            if (path ~ /^docs\/design\/[0-9]+-.*\.md$/) {
                sub(/.*\//, "", path)
                if (!index(index_text, "(" path ")")) wrong("does not list " path)
            }
        }
        printf "check-docs: %d pages, %d links, %d paths, %d mistakes\n", read, links, paths, mistakes
        exit mistakes > 0
    }
' - "${pages[@]}"
