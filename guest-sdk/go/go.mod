module jackfield

go 1.26
