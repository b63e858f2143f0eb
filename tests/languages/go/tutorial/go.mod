module local/tutorial

go 1.26.8

require jackfield v0.0.0

replace jackfield => ./sdk
