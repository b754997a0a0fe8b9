package main

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
)

func TestFoldersComeBeforeWhatIsInThem(t *testing.T) {
	image := newArchive("some")
	image.add("/usr/bin/tool", entry{mode: 0o755, content: "x"})
	image.addAccounts()
	layer, err := image.layer()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int64{}
	for reader := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[header.Name] = header.Mode
		if header.Name == "usr/bin/tool" && seen["usr/bin/"] == 0 {
			t.Error("the program comes before its folder")
		}
	}
	if seen["tmp/"] != 0o1777 {
		t.Errorf("/tmp has mode %o", seen["tmp/"])
	}
	if image.name != "some:test" {
		t.Errorf("the name without a tag became %s", image.name)
	}
}
