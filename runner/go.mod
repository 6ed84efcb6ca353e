module bareboat/runner

go 1.24
