package main

import "flag"

type logOptions struct{}

func (l *logOptions) flags(flags *flag.FlagSet) {}

func logs(o *options) int { return 1 }
