"""Parts of `compare`: what was asked, mixes made equal, places against each other. Pure, but for `sides`, `asked`."""
