package config

import "errors"

// DataDir reads the data folder alone, from where Load reads it: for commands beside a
// server, which need nothing else of its settings. It makes nothing.
func DataDir(s Source) (string, error) {
	l := &loader{Source: s}
	l.readEnvFile()
	l.readFile()
	c := Default()
	for _, row := range settings {
		if row.bind(&c) != any(&c.Store.Dir) {
			continue
		}
		if text, _, found := l.lookup(row.key, row.flag(), row.env()); found {
			c.Store.Dir = text
		}
	}
	err := checkPath("data_dir", c.Store.Dir)
	if c.Store.Dir == "" {
		err = errors.New("data_dir is empty: name a folder")
	}
	return c.Store.Dir, errors.Join(append(l.problems, err)...)
}
