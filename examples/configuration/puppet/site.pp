include orders
