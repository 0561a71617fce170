package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// paths are where two JSON values differ, in order: "limits.rate",
// "keys[1].secret". They are none when there was no value, or when one of the
// two is no JSON.
func paths(before, after []byte) []string {
	var a, b any
	if len(before) == 0 || json.Unmarshal(before, &a) != nil || json.Unmarshal(after, &b) != nil {
		return nil
	}
	was, is := map[string]string{}, map[string]string{}
	flatten("", a, was)
	flatten("", b, is)
	differ := map[string]bool{}
	for path, v := range was {
		if w, ok := is[path]; !ok || v != w {
			differ[clean(path)] = true
		}
	}
	for path := range is {
		if _, ok := was[path]; !ok {
			differ[clean(path)] = true
		}
	}
	return slices.Sorted(maps.Keys(differ))
}

func flatten(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for name, item := range v {
			below := name
			if path != "" {
				below = path + "." + name
			}
			flatten(below, item, into)
		}
	case []any:
		for i, item := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), item, into)
		}
	default:
		into[path] = fmt.Sprintf("%T %v", v, v)
	}
}

// bounded are the first of many paths, and how many more there are.
func bounded(list []string) []string {
	if more := len(list) - mostPaths; more > 0 {
		return append(slices.Clip(list[:mostPaths]), fmt.Sprintf("and %d more", more))
	}
	return list
}
