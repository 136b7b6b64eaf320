#include <stdio.h>

int main(void) {
    puts("hello from @name@");
    return 0;
}
