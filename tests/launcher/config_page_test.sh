#!/usr/bin/env bash
# docs/config.md is what the .proto files say, and every field says something.
if ! diff launcher/config/config_page.md docs/config.md; then
  echo "docs/config.md is not what the .proto files say (>: in docs/config.md). Run: docs/config_page"
  exit 1
fi
if grep -nE '^- .*: (list of )?(text|number|whole number|true or false)\. *$' docs/config.md; then
  echo "The fields above have no comment in their .proto file."
  exit 1
fi
