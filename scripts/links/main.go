// Command links checks that what the Markdown files link to is there: files, and
// headings in them. It looks at no addresses outside of the repository.
//
//	go run ./scripts/links FILE.md…
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

var (
	// code is what holds no links: fenced blocks, and code in a line.
	code = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$|`[^`\n]*`")
	// fences are the blocks alone: a heading may hold code.
	fences  = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)|(?:src|href)="([^"]+)"`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?)[ \t]*$`)
	scheme  = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

func main() {
	broken := 0
	for _, name := range os.Args[1:] {
		problems, err := check(name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "links: %v\n", err)
			os.Exit(1)
		}
		for _, problem := range problems {
			fmt.Fprintf(os.Stderr, "links: %s: %s\n", name, problem)
		}
		broken += len(problems)
	}
	if broken > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong with the links of a file.
func check(name string) (problems []string, err error) {
	text, err := os.ReadFile(name) //nolint:gosec // a file of the repository, named by the caller
	if err != nil {
		return nil, fmt.Errorf("read what may hold links: %w", err)
	}
	for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), ""), -1) {
		target := found[1] + found[2]
		if scheme.MatchString(target) {
			continue
		}
		if problem := follow(name, target); problem != "" {
			problems = append(problems, problem)
		}
	}
	return problems, nil
}

// follow says what is wrong with a link from a file, "" if nothing is.
func follow(name, target string) string {
	path, anchor, _ := strings.Cut(target, "#")
	file := name
	if path != "" {
		file = filepath.Join(filepath.Dir(name), filepath.FromSlash(path))
	}
	if _, err := os.Stat(file); err != nil { //nolint:gosec // a link of the repository
		return fmt.Sprintf("%s is not there", target)
	}
	if anchor == "" {
		return ""
	}
	text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err != nil || !anchors(string(text))[anchor] {
		return fmt.Sprintf("%s has no heading %s", file, anchor)
	}
	return ""
}

// anchors are the names that GitHub gives the headings of a text, for headings
// that are not the same.
func anchors(text string) map[string]bool {
	names := make(map[string]bool)
	for _, found := range heading.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		names[anchor(found[1])] = true
	}
	return names
}

func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}
