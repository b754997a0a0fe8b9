package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// An archive is an image of one layer, of the kind that `docker save` writes and containerd
// imports. The same files give the same bytes.
type archive struct {
	name    string
	config  imageConfig
	entries map[string]entry
}

type imageConfig struct {
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	Env        []string `json:",omitempty"`
	User       string   `json:",omitempty"`
}

// An entry is a folder, a link, a file of the machine or a file with the given content.
type entry struct {
	mode    fs.FileMode
	link    string
	source  string
	content string
}

func newArchive(name string) *archive {
	// Without a tag the runtime would store it as :latest, which Kubernetes pulls each time.
	if !strings.Contains(path.Base(name), ":") {
		name += ":test"
	}
	return &archive{
		name:    name,
		config:  imageConfig{Env: []string{"PATH=/usr/bin:/usr/sbin:/bin:/sbin"}},
		entries: map[string]entry{},
	}
}

func (a *archive) add(name string, e entry) {
	name = strings.Trim(path.Clean(name), "/")
	a.entries[name] = e
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if _, known := a.entries[parent]; !known {
			a.entries[parent] = entry{mode: fs.ModeDir | 0o755}
		}
	}
}

// addFile adds a file of the machine, and the libraries where it is a program.
func (a *archive) addFile(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("put %s into the image: %w", source, err)
	}
	a.add(target, entry{mode: info.Mode().Perm(), source: source})
	needed, err := libraries(source)
	if err != nil {
		return err
	}
	for _, library := range needed {
		a.add(library, entry{mode: 0o755, source: library})
	}
	return nil
}

// addTree adds a file or everything in a folder. Links within a folder stay links.
func (a *archive) addTree(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("put %s into the image: %w", source, err)
	}
	if !info.IsDir() {
		return a.addFile(source, target)
	}
	return filepath.WalkDir(source, func(file string, found fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		place := path.Join(target, below)
		switch kind := found.Type(); {
		case kind.IsDir():
			if below != "." || path.Clean("/"+target) != "/" {
				a.add(place, entry{mode: fs.ModeDir | 0o755})
			}
		case kind&fs.ModeSymlink != 0:
			link, err := os.Readlink(file)
			if err != nil {
				return err
			}
			a.add(place, entry{mode: fs.ModeSymlink | 0o777, link: link})
		case kind.IsRegular():
			return a.addFile(file, place)
		default:
			return fmt.Errorf("put %s into the image: neither file, folder nor link", file)
		}
		return nil
	})
}

func (a *archive) write(target string) error {
	layer, err := a.layer()
	if err != nil {
		return err
	}
	layerDigest := fmt.Sprintf("%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       a.config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerDigest}},
	})
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	layerName := layerDigest + "/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{a.name}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, part := range []struct {
		name    string
		content []byte
	}{{layerName, layer}, {configName, config}, {"manifest.json", manifest}} {
		header := tar.Header{Name: part.name, Size: int64(len(part.content)), Mode: 0o644, Format: tar.FormatPAX}
		if err := writer.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := writer.Write(part.content); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(target, out.Bytes(), 0o644)
}

func (a *archive) layer() ([]byte, error) {
	names := make([]string, 0, len(a.entries))
	for name := range a.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, name := range names {
		if err := a.entries[name].write(writer, name); err != nil {
			return nil, fmt.Errorf("write %s into the image: %w", name, err)
		}
	}
	err := writer.Close()
	return out.Bytes(), err
}

func (e entry) write(writer *tar.Writer, name string) error {
	header := tar.Header{Name: name, Mode: int64(e.mode.Perm()), Format: tar.FormatPAX}
	content := []byte(e.content)
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		if e.mode&fs.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
	case e.mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
	case e.source != "":
		var err error
		if content, err = os.ReadFile(e.source); err != nil {
			return err
		}
	}
	header.Size = int64(len(content))
	if err := writer.WriteHeader(&header); err != nil {
		return err
	}
	_, err := io.Copy(writer, bytes.NewReader(content))
	return err
}
