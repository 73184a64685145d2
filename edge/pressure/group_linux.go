package pressure

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// group is the control group, the process' own or one around it, that bounds its memory
// most.
type group struct {
	limit int64 // bytes
	usage string
	stat  string
	// reclaimable begin the lines of stat with what the kernel takes back before it
	// kills anything: pages of files, which the store has many of.
	reclaimable []string
}

// Where control groups are mounted. Of both versions the path of the process may be
// that of another namespace: then the group is what is mounted.
const (
	mountV2 = "/sys/fs/cgroup"
	mountV1 = "/sys/fs/cgroup/memory"
)

func findGroup() *group {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	return groupOf(string(text), mountV1, mountV2)
}

// groupOf reads /proc/self/cgroup (cgroups(7)).
func groupOf(text, v1, v2 string) *group {
	var found *group
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var one *group
		switch {
		case parts[0] == "0" && parts[1] == "":
			one = smallest(v2, parts[2], "memory.max", func(dir string) group {
				return group{usage: filepath.Join(dir, "memory.current"), reclaimable: []string{"active_file ", "inactive_file ", "slab_reclaimable "}}
			})
		case strings.Contains(","+parts[1]+",", ",memory,"):
			one = smallest(v1, parts[2], "memory.limit_in_bytes", func(dir string) group {
				return group{usage: filepath.Join(dir, "memory.usage_in_bytes"), reclaimable: []string{"total_active_file ", "total_inactive_file "}}
			})
		}
		if one != nil && (found == nil || one.limit < found.limit) {
			found = one
		}
	}
	return found
}

// unlimited is more than any machine has; version 1 has such a number for no limit.
const unlimited = 1 << 60

// smallest finds the group with the smallest limit, from path up to the mount.
func smallest(mount, path, file string, make func(dir string) group) *group {
	var found *group
	for dir := filepath.Join(mount, filepath.Clean("/"+path)); strings.HasPrefix(dir, mount); dir = filepath.Dir(dir) {
		limit, ok := readNumber(filepath.Join(dir, file))
		if !ok || limit >= unlimited || found != nil && limit >= found.limit {
			continue
		}
		g := make(dir)
		g.limit, g.stat = limit, filepath.Join(dir, "memory.stat")
		found = &g
	}
	return found
}

func readNumber(name string) (int64, bool) {
	text, err := os.ReadFile(name) //nolint:gosec // of the kernel's control groups
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil // "max" is none
}

// used is what the group uses and the kernel cannot take back, its own memory for
// sockets included.
func (g *group) used() (int64, bool) {
	used, ok := readNumber(g.usage)
	if !ok {
		return 0, false
	}
	text, err := os.ReadFile(g.stat)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		for _, name := range g.reclaimable {
			if rest, is := bytes.CutPrefix(line, []byte(name)); is {
				if n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64); err == nil {
					used -= n
				}
			}
		}
	}
	return max(0, used), true
}

// residentMemory is what the process has in memory that is of no file (proc(5), statm).
func residentMemory() (int64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0, false
	}
	resident, err1 := strconv.ParseInt(fields[1], 10, 64)
	shared, err2 := strconv.ParseInt(fields[2], 10, 64)
	return (resident - shared) * int64(os.Getpagesize()), err1 == nil && err2 == nil
}

// totalMemory is that of the machine, 0 if it is not known.
func totalMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, "MemTotal:"); is {
			if kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
